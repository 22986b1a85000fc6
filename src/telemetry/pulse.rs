//! A task's sign of life: the handle that it holds, on the one [`Board`].

use std::borrow::Cow;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::board::{Board, Report};

/// How long a task may work without a sign of life. Above any single wait: a request has 30 s and obeys a pause of 30 s, a discovery or a render has 60 s,
/// and so has the first list of a kind.
pub const BOUND: Duration = Duration::from_secs(300);

/// How often a task that waits shows that it would answer.
const NUDGE: Duration = Duration::from_secs(15);

/// The signs of life of all tasks. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Pulses {
    board: Arc<Mutex<Board>>,
}

impl Pulses {
    /// A task begins that may be silent for as long as `bound`.
    pub fn enter(&self, task: impl Into<String>, bound: Duration) -> Pulse {
        let number = self.board().enter(task.into(), bound, now());
        Pulse { entry: Some(Arc::new(Entry { pulses: self.clone(), number })) }
    }

    /// How the tasks are now, by name.
    pub fn reports(&self) -> Vec<Report> {
        self.board().reports(now())
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One task's. It is on the board until the last clone is dropped; dropped by a panic, it stays there as dead. The default is on no board.
#[derive(Debug, Clone, Default)]
pub struct Pulse {
    entry: Option<Arc<Entry>>,
}

#[derive(Debug)]
struct Entry {
    pulses: Pulses,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.pulses.board().leave(self.number, std::thread::panicking());
    }
}

impl Pulse {
    /// Begins a step, named as in "rendering 3f2a91c".
    pub fn step(&self, doing: impl Into<Cow<'static, str>>) {
        if let Some(entry) = &self.entry {
            entry.pulses.board().step(entry.number, doing.into(), now());
        }
    }

    /// Makes progress within a step.
    pub fn beat(&self) {
        if let Some(entry) = &self.entry {
            entry.pulses.board().beat(entry.number, now());
        }
    }

    /// Waits for what may never come. Meanwhile the task is alive as long as it is able to answer.
    pub async fn idle<T>(&self, doing: &'static str, event: impl Future<Output = T>) -> T {
        self.step(doing);
        let mut event = std::pin::pin!(event);
        loop {
            match timeout(NUDGE, &mut event).await {
                Ok(event) => {
                    self.step("seeing what is new");
                    return event;
                }
                Err(_) => self.beat(),
            }
        }
    }

    /// Waits in a queue for its turn. As long as others get theirs, that is progress.
    pub async fn queue<T>(&self, turns: &Turns, turn: impl Future<Output = T>) -> T {
        let (mut turn, mut seen) = (std::pin::pin!(turn), turns.count());
        loop {
            match timeout(NUDGE, &mut turn).await {
                Ok(turn) => {
                    turns.next();
                    return turn;
                }
                Err(_) if seen == turns.count() => {}
                Err(_) => {
                    seen = turns.count();
                    self.beat();
                }
            }
        }
    }
}

/// Counts the turns that a queue has given. Clones share the count.
#[derive(Debug, Clone, Default)]
pub struct Turns {
    count: Arc<AtomicU64>,
}

impl Turns {
    fn next(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// By tokio's clock, which a test can stop.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::{Notify, Semaphore};
    use tokio::time::{advance, sleep};

    use super::*;

    fn hanging(pulses: &Pulses) -> Vec<String> {
        let reports = pulses.reports();
        reports.iter().filter(|report| !report.is_alive()).map(ToString::to_string).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_future_that_hangs_is_found_and_one_that_waits_is_not() {
        let pulses = Pulses::default();
        let [hung, waiting] = ["environment hung", "environment waiting"].map(|name| pulses.enter(name, BOUND));
        let tasks = [
            tokio::spawn(async move {
                hung.step("rendering 3f2a91c");
                pending::<()>().await; // A lock that is never given back, a wake-up that is lost.
            }),
            tokio::spawn(async move { waiting.idle("waiting for events", pending()).await }),
        ];
        sleep(BOUND).await;
        assert!(hanging(&pulses).is_empty());
        sleep(NUDGE * 2).await;
        let expected = "environment hung hangs: rendering 3f2a91c for 5m 30s, without progress for 5m 30s (at most 5m)";
        assert_eq!(hanging(&pulses), [expected]);
        sleep(BOUND * 100).await;
        assert_eq!(hanging(&pulses).len(), 1);
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
        tokio::task::yield_now().await;
        assert!(pulses.reports().is_empty(), "an aborted task is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_waits_but_does_not_get_to_run_is_found() {
        let pulses = Pulses::default();
        let pulse = pulses.enter("supervisor", BOUND);
        let mut waiting = Box::pin(async move { pulse.idle("waiting for events", pending::<()>()).await });
        assert!(futures::poll!(&mut waiting).is_pending());
        advance(BOUND + NUDGE).await; // Nobody polls it: its thread is stuck in something else.
        assert_eq!(hanging(&pulses).len(), 1);
        assert!(futures::poll!(&mut waiting).is_pending());
        assert!(hanging(&pulses).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_ends_the_wait() {
        let (pulses, event) = (Pulses::default(), Notify::new());
        let pulse = pulses.enter("source", BOUND);
        event.notify_one();
        pulse.idle("waiting for events", event.notified()).await;
        assert_eq!(pulses.reports()[0].to_string(), "source: seeing what is new for 0s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_moves_is_progress_and_one_that_stands_is_not() {
        let (pulses, turns, places) = (Pulses::default(), Turns::default(), Arc::new(Semaphore::new(0)));
        let last = pulses.enter("last", BOUND);
        let (others, all) = (Arc::clone(&places), turns.clone());
        // Twenty others get their turn, one a minute; each place is used up.
        let before = tokio::spawn(async move {
            for _ in 0..20 {
                sleep(Duration::from_secs(60)).await;
                Pulse::default().queue(&all, async {}).await;
            }
        });
        let waiting = tokio::spawn(async move { last.queue(&turns, others.acquire()).await.is_ok() });
        before.await.unwrap();
        assert!(hanging(&pulses).is_empty(), "twenty minutes in a queue that moves");
        sleep(BOUND + NUDGE * 2).await;
        assert_eq!(hanging(&pulses).len(), 1, "nobody gets a turn any more");
        places.add_permits(1);
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn a_task_that_panics_is_told_until_it_is_started_again() {
        let pulses = Pulses::default();
        let pulse = pulses.enter("watch of ConfigMap", BOUND);
        let died = tokio::spawn(async move {
            pulse.step("listing");
            panic!("a test's own");
        });
        assert!(died.await.is_err());
        assert_eq!(hanging(&pulses), ["watch of ConfigMap died"]);
        let _again = pulses.enter("watch of ConfigMap", BOUND);
        assert!(hanging(&pulses).is_empty());
    }
}
