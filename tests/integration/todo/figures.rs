//! What the site needs: seconds until its pods are Ready, and memory.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

/// What a Minikube has by default, in MiB.
const MINIKUBE: u64 = 4096;

/// Prints how long these pods took from their start, and their container's, to Ready, and what they and plumb have in memory.
pub fn print(pods: &[Pod], plumb: u64) {
    let mut sum = plumb;
    for pod in pods {
        let status = pod.status.clone().unwrap_or_default();
        let ready = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
        let ready = ready.and_then(|ready| ready.last_transition_time.as_ref()).expect("it is Ready").0;
        let started = status
            .container_statuses
            .iter()
            .flatten()
            .filter_map(|container| Some(container.state.as_ref()?.running.as_ref()?.started_at.as_ref()?.0));
        let started = started.max().expect("it runs");
        let accepted = status.start_time.as_ref().expect("a node has it").0;
        let bytes = memory(&pod.uid().unwrap_or_default()).expect("its processes can be looked at");
        sum += bytes;
        eprintln!(
            "{}: Ready {} s after its container's start and {} s after its own, {:.1} MiB",
            pod.name_any(),
            ready.duration_since(started).as_secs(),
            ready.duration_since(accepted).as_secs(),
            mib(bytes),
        );
    }
    eprintln!("plumb: {:.1} MiB; with the pods {:.0} MiB of {MINIKUBE}", mib(plumb), mib(sum));
    assert!(sum >> 20 < MINIKUBE, "it fits on a Minikube");
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// What the processes of a pod have in memory: their proportional share.
fn memory(uid: &str) -> Option<u64> {
    let mut sum = 0;
    for process in std::fs::read_dir("/proc").ok()?.flatten().map(|process| process.path()) {
        let Ok(groups) = std::fs::read_to_string(process.join("cgroup")) else { continue };
        if !groups.contains(uid) {
            continue;
        }
        let rollup = std::fs::read_to_string(process.join("smaps_rollup")).ok()?;
        let line = rollup.lines().find(|line| line.starts_with("Pss:"))?;
        sum += line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10;
    }
    (sum > 0).then_some(sum)
}
