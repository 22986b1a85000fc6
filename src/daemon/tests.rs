use std::future::pending;

use super::*;
use crate::cluster::Cluster;
use crate::cluster::parent::Instance;
use crate::render::Tools;

fn shared() -> Arc<Shared> {
    let instance = Instance { name: "test".to_owned(), run: "1".to_owned() };
    Arc::new(Shared::new(Cluster::nowhere(), instance, Tools::default()))
}

fn source() -> (channel::Sender<Arc<SourceState>>, channel::Receiver<Arc<SourceState>>) {
    channel::channel(Arc::new(SourceState::Waiting { reason: "a test".to_owned() }))
}

#[tokio::test]
async fn a_source_that_ended_is_an_error_and_a_stop_is_none() {
    let (states, source) = source();
    let (_stop, stopped) = channel::channel(false);
    drop(states);
    let ended = run(shared(), Settings::default(), source, stopped).await;
    assert_eq!(ended, Err(DaemonError::SourceEnded));

    // Told to stop, the source ends too, and may be the first to be seen.
    let (states, source) = self::source();
    let (stop, stopped) = channel::channel(false);
    stop.send_replace(true);
    drop(states);
    assert_eq!(run(shared(), Settings::default(), source, stopped).await, Ok(()));
}

#[tokio::test]
async fn the_watch_of_the_environments_must_not_end() {
    let (_states, source) = source();
    let (_stop, stopped) = channel::channel(false);
    let mut parents = tokio::spawn(async { panic!("a test's own") });
    let mut supervisor = Supervisor::new(shared(), Settings::default());
    let ended = supervisor.supervise(source, stopped, &mut parents).await;
    assert_eq!(ended, Err(DaemonError::ParentsEnded));
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_at_rest_is_alive_and_one_that_is_not_polled_is_not() {
    let (states, source) = source();
    let (stop, stopped) = channel::channel(false);
    let shared = shared();
    let pulses = shared.telemetry.pulses.clone();
    let alive = || pulses.reports().iter().all(|report| report.is_alive());
    let mut parents = tokio::spawn(pending());
    let mut supervisor = Supervisor::new(Arc::clone(&shared), Settings::default());
    {
        let mut following = std::pin::pin!(supervisor.supervise(source, stopped, &mut parents));
        let hour = tokio::time::sleep(Duration::from_secs(3600));
        tokio::select! {
            _ = &mut following => panic!("it follows until it is stopped"),
            () = hour => {}
        }
        assert_eq!(pulses.reports().len(), 1);
        assert!(alive());
        tokio::time::sleep(pulse::BOUND * 2).await;
        assert!(!alive(), "its thread is stuck");
        stop.send_replace(true);
        assert_eq!(following.await, Ok(()));
    }
    drop((states, supervisor));
    assert!(pulses.reports().is_empty());
}
