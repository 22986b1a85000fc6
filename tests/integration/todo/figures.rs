//! What the site needs: seconds until its pods are Ready, memory, and the size of its images.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

/// What a Minikube has by default, in MiB.
const MINIKUBE: u64 = 4096;

/// What each image is smaller than, in MB (10^6 bytes), by the beginning of its name.
const IMAGES: [(&str, f64); 3] = [("todo-frontend:", 200.0), ("todo-backend:", 500.0), ("todo-mcp:", 500.0)];

/// Prints how long these pods took from their start, and their container's, to Ready, and what they and plumb have in memory. `bound` is
/// how many seconds their containers may take.
pub fn print(pods: &[Pod], plumb: u64, bound: Option<u64>) {
    let (mut sum, mut slow) = (plumb, Vec::new());
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
        let took = ready.duration_since(started).as_secs();
        if bound.is_some_and(|bound| took > bound.cast_signed()) {
            slow.push(pod.name_any());
        }
        eprintln!(
            "{}: Ready {took} s after its container's start and {} s after its own, {:.1} MiB",
            pod.name_any(),
            ready.duration_since(accepted).as_secs(),
            mib(bytes),
        );
    }
    eprintln!("plumb: {:.1} MiB; with the pods {:.0} MiB of {MINIKUBE}", mib(plumb), mib(sum));
    assert!(sum >> 20 < MINIKUBE, "it fits on a Minikube");
    assert!(slow.is_empty(), "more than {bound:?} s from the container's start to Ready: {slow:?}");
}

/// Prints what these images take as files, layers compressed, and that none is too large. `archives` has the file of each.
pub fn images_are_small(images: &[String], archives: &[PathBuf]) {
    assert_eq!((images.len(), archives.len()), (IMAGES.len(), IMAGES.len()), "{images:?} {archives:?}");
    for (image, archive) in images.iter().zip(archives) {
        let size = std::fs::metadata(archive).expect("a file").len() as f64 / 1e6;
        let most = IMAGES.into_iter().find(|(name, _)| image.starts_with(name)).expect("a known image").1;
        eprintln!("image {image}: {size:.1} MB");
        assert!(size < most, "{image} is to be smaller than {most} MB");
    }
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
