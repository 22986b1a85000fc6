use super::*;
use crate::model::Failure;

fn commit(byte: u8) -> CommitId {
    CommitId::new([byte; 20])
}

/// The value of one series; it must be there.
fn value(metrics: &Metrics, series: &str) -> f64 {
    let text = metrics.text().unwrap();
    let found = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
}

#[test]
fn commits_are_counted_by_how_they_ended() {
    let metrics = Metrics::default();
    metrics.head("dev", Some(commit(1)));
    let failed = |stage| Outcome::Failed(Failure::new(stage, "no"));
    let deployed = r#"plumb_deployments_total{environment="dev",outcome="Deployed"}"#;
    let synced = r#"plumb_environment_synced{environment="dev"}"#;
    assert_eq!(value(&metrics, deployed), 0.0);
    assert!(!metrics.text().unwrap().contains(synced), "nothing has ended");
    metrics.ended("dev", &Outcome::Deployed, &[(Stage::Apply, Duration::from_millis(70))]);
    assert_eq!(value(&metrics, synced), 1.0);
    metrics.ended("dev", &failed(Stage::Render), &[]);
    metrics.ended("dev", &failed(Stage::DryRun), &[]);
    metrics.ended("dev", &failed(Stage::DryRun), &[]);
    assert_eq!(value(&metrics, deployed), 1.0);
    assert_eq!(value(&metrics, r#"plumb_deployments_total{environment="dev",outcome="Failed"}"#), 3.0);
    assert_eq!(value(&metrics, r#"plumb_deployment_failures_total{environment="dev",stage="dry-run"}"#), 2.0);
    assert_eq!(value(&metrics, r#"plumb_deployment_failures_total{environment="dev",stage="render"}"#), 1.0);
    assert_eq!(value(&metrics, synced), 0.0);
    metrics.ended("dev", &Outcome::SupersededBy(commit(2)), &[]);
    assert_eq!(value(&metrics, synced), 0.0, "what was overtaken says nothing");
    metrics.ended("dev", &Outcome::Unchanged, &[]);
    assert_eq!(value(&metrics, synced), 1.0);
    let buckets = r#"plumb_deployment_stage_duration_seconds_bucket{le="#;
    assert_eq!(value(&metrics, &format!(r#"{buckets}"0.05",stage="apply"}}"#)), 0.0);
    assert_eq!(value(&metrics, &format!(r#"{buckets}"0.1",stage="apply"}}"#)), 1.0);
}

#[test]
fn a_rollout_that_fails_is_counted_at_its_stage_and_the_commit_stays_deployed() {
    let metrics = Metrics::default();
    metrics.head("dev", Some(commit(1)));
    metrics.ended("dev", &Outcome::Deployed, &[]);
    let healthy = r#"plumb_environment_healthy{environment="dev"}"#;
    assert!(!metrics.text().unwrap().contains(healthy), "nothing is known");
    metrics.health("dev", false);
    assert_eq!(value(&metrics, healthy), 0.0);
    metrics.rolled_out("dev", false, Duration::from_secs(300));
    metrics.rolled_out("dev", true, Duration::from_secs(8));
    metrics.health("dev", true);
    assert_eq!(value(&metrics, healthy), 1.0);
    assert_eq!(value(&metrics, r#"plumb_deployment_failures_total{environment="dev",stage="health"}"#), 1.0);
    assert_eq!(value(&metrics, r#"plumb_environment_synced{environment="dev"}"#), 1.0);
    assert_eq!(value(&metrics, r#"plumb_deployment_stage_duration_seconds_count{stage="health"}"#), 2.0);
}

#[test]
fn a_head_waits_until_there_is_nothing_left_to_do() {
    let environments = Environments::default();
    let start = std::time::Instant::now();
    let waits = |environments: &Environments| {
        let mut waits = None;
        environments.with("dev", |seen| waits = seen.waits);
        waits
    };
    environments.head("dev", Some(commit(1)), start);
    assert_eq!(waits(&environments), Some(start));
    let second = |seconds| start + Duration::from_secs(seconds);
    environments.head("dev", Some(commit(2)), second(5));
    assert_eq!(waits(&environments), Some(start), "it is behind since the first of them");
    environments.with("dev", |seen| seen.at_rest(Some(commit(1))));
    assert_eq!(waits(&environments), Some(start), "what was done is not that head");
    environments.with("dev", |seen| seen.at_rest(Some(commit(2))));
    environments.head("dev", Some(commit(2)), second(9));
    assert_eq!(waits(&environments), None, "that head is done");
    environments.head("dev", Some(commit(1)), second(10));
    assert_eq!(waits(&environments), Some(second(10)), "a branch that was set back");
    environments.head("dev", None, second(11));
    assert_eq!(waits(&environments), None, "nobody waits for a branch that is gone");
    environments.with("dev", |seen| seen.waits_anew(second(12)));
    assert_eq!(waits(&environments), None, "under whatever definition");
    environments.head("dev", Some(commit(1)), second(13));
    environments.with("dev", |seen| seen.at_rest(Some(commit(1))));
    environments.with("dev", |seen| seen.waits_anew(second(14)));
    environments.with("dev", |seen| seen.waits_anew(second(15)));
    assert_eq!(waits(&environments), Some(second(14)), "the same head under another definition");
}

#[test]
fn an_environment_that_is_gone_has_no_series_and_does_not_come_back() {
    let metrics = Metrics::default();
    metrics.head("dev", Some(commit(1)));
    metrics.head("prod", Some(commit(1)));
    metrics.drift("dev", "value-changed", "reverted");
    metrics.drift("dev", "value-changed", "reverted");
    let drift = r#"plumb_drift_total{environment="dev",class="value-changed",action="reverted"}"#;
    assert_eq!(value(&metrics, drift), 2.0);
    metrics.forget("dev");
    // Its task's last words, and a scrape that began before.
    metrics.ended("dev", &Outcome::Deployed, &[]);
    metrics.drift("dev", "deleted", "reverted");
    metrics.objects("dev", 3);
    let text = metrics.text().unwrap();
    assert!(!text.contains(r#""dev""#), "{text}");
    assert!(text.contains(r#""prod""#));
    assert_eq!(metrics.environments(), ["prod"]);
}

#[test]
fn requests_are_counted_by_verb_and_answer() {
    let metrics = Metrics::default();
    let took = Duration::from_millis(3);
    metrics.request("patch", Answer::Code(200), took);
    metrics.request("patch", Answer::Code(429), took);
    metrics.request("get", Answer::TimedOut, took);
    metrics.watch(Answer::Unreachable);
    for (verb, code) in [("patch", "200"), ("patch", "429"), ("get", "timeout"), ("watch", "unreachable")] {
        assert_eq!(value(&metrics, &format!(r#"plumb_api_requests_total{{verb="{verb}",code="{code}"}}"#)), 1.0);
    }
    assert_eq!(value(&metrics, r#"plumb_api_request_duration_seconds_count{verb="patch"}"#), 2.0);
    assert_eq!(value(&metrics, "plumb_watch_connections_total"), 1.0);
}

#[test]
fn the_process_says_what_it_is() {
    let metrics = Metrics::default();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(value(&metrics, &format!(r#"plumb_build_info{{version="{version}"}}"#)), 1.0);
    assert!(value(&metrics, "process_start_time_seconds") > 1.7e9);
    if cfg!(target_os = "linux") {
        assert!(value(&metrics, "process_resident_memory_bytes") > 1e5);
    }
}

/// Each family is announced before its series, its unit is a base unit, a counter's series ends in `_total`, and the text ends as OpenMetrics must.
#[test]
fn the_text_is_well_formed() {
    let metrics = Metrics::default();
    metrics.head("d\"e\\v\n", Some(commit(1)));
    metrics.ended("d\"e\\v\n", &Outcome::Deployed, &[(Stage::Apply, Duration::from_millis(70))]);
    metrics.source_read(true);
    let text = metrics.text().unwrap();
    assert!(text.ends_with("# EOF\n"));
    assert!(text.contains(r#"environment="d\"e\\v\n""#), "{text}");
    let mut kinds = std::collections::BTreeMap::new();
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
            assert!(name.starts_with("plumb_") || name.starts_with("process_"), "{name}");
            assert!(!name.contains("_ms") && !name.contains("milli"), "{name}");
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            let (family, suffix) = ["_total", "_bucket", "_sum", "_count", "_info"]
                .iter()
                .find_map(|suffix| Some((name.strip_suffix(suffix)?, *suffix)))
                .unwrap_or((name, ""));
            let suffixes: &[&str] = match kinds.get(family).map(String::as_str) {
                Some("counter") => &["_total"],
                Some("gauge") => &[""],
                Some("histogram") => &["_bucket", "_sum", "_count"],
                Some("info") => &["_info"],
                other => panic!("{name}: {other:?}"),
            };
            assert!(suffixes.contains(&suffix), "{line}");
            line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        }
    }
    assert!(kinds.len() > 15);
}

#[test]
fn rounds_of_the_collection_are_counted_with_what_they_removed() {
    let metrics = Metrics::default();
    metrics.collected(None);
    metrics.collected(Some((0, 0)));
    metrics.collected(Some((3, 4096)));
    assert_eq!(value(&metrics, r#"plumb_image_collections_total{result="doubt"}"#), 1.0);
    assert_eq!(value(&metrics, r#"plumb_image_collections_total{result="success"}"#), 2.0);
    assert_eq!(value(&metrics, "plumb_images_removed_total"), 3.0);
    assert_eq!(value(&metrics, "plumb_images_removed_bytes_total"), 4096.0);
}
