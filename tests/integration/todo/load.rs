//! Requests at a steady rate, and what became of them.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::http::{Connection, NoAnswer, request};

/// Nobody waits longer for a list of tasks.
const PATIENCE: Duration = Duration::from_secs(30);
/// One request of so many is a client's first: it has a connection of its own, and nobody sends it again.
const FIRST: usize = 5;

/// What became of the requests.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How many were answered as they should be, and how long that took.
    pub answered: Vec<Duration>,
    /// How many of them had to be sent again, because the server closed a kept connection while they were on their way.
    pub resent: usize,
    /// How many connections were kept at the same time, at most.
    pub kept: usize,
    /// Why the others were not.
    pub failed: Vec<String>,
}

impl Outcome {
    /// The time that this share of the answers took at most.
    pub fn quantile(&self, share: f64) -> Duration {
        let mut took = self.answered.clone();
        took.sort_unstable();
        let last = took.len().saturating_sub(1);
        took.get((last as f64 * share) as usize).copied().unwrap_or_default()
    }
}

/// Somebody who asks, until it is enough.
pub struct Load {
    enough: watch::Sender<bool>,
    asking: JoinHandle<Outcome>,
}

impl Load {
    /// Gets `path` so many times a second, over connections that are kept as long as the server keeps them.
    pub fn start(per_second: u32, address: String, path: &'static str, token: String) -> Self {
        let (enough, enough_yet) = watch::channel(false);
        let asking = tokio::spawn(async move {
            let pool = Arc::new(Pool { address, path, token, kept: Mutex::default() });
            let (mut ticks, mut asked) = (interval(Duration::from_secs(1) / per_second), JoinSet::new());
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            while !*enough_yet.borrow() {
                ticks.tick().await;
                let (pool, first) = (pool.clone(), asked.len() % FIRST == 0);
                asked.spawn(async move {
                    let started = Instant::now();
                    let answer =
                        async { if first { pool.get_first().await.map(|()| false) } else { pool.get().await } };
                    let answer = timeout(PATIENCE, answer).await;
                    answer.context("no answer in time").flatten().map(|resent| (started.elapsed(), resent))
                });
            }
            let mut outcome = Outcome::default();
            for ended in asked.join_all().await {
                match ended {
                    Ok((took, resent)) => {
                        outcome.answered.push(took);
                        outcome.resent += usize::from(resent);
                    }
                    Err(error) => outcome.failed.push(format!("{error:#}")),
                }
            }
            outcome.kept = pool.kept.lock().expect("nobody panicked").most;
            outcome
        });
        Self { enough, asking }
    }

    /// Stops, and waits for what is still asked for.
    pub async fn stop(self) -> Outcome {
        let _ = self.enough.send(true);
        self.asking.await.expect("it did not panic")
    }
}

/// Where requests go, and connections that are kept.
struct Pool {
    address: String,
    path: &'static str,
    token: String,
    kept: Mutex<Kept>,
}

/// Kept connections: those that nobody uses now, how many there are with the others, and how many there were at most.
#[derive(Default)]
struct Kept {
    idle: Vec<Connection>,
    open: usize,
    most: usize,
}

impl Pool {
    /// One request as a client's first.
    async fn get_first(&self) -> anyhow::Result<()> {
        Ok(self.ask(&mut Connection::open(&self.address).await?).await??)
    }

    /// One request as clients with a pool do it (RFC 9110, 9.2.2): what could not be sent on a kept connection is sent on another one; so is,
    /// once, what got no answer because the server closed it just then. Whether it was. An answer that breaks off is a failure.
    async fn get(&self) -> anyhow::Result<bool> {
        let mut resent = false;
        while !resent && let Some(mut connection) = self.take() {
            let is_open = connection.is_open().await;
            match if is_open { self.ask(&mut connection).await? } else { Err(NoAnswer::Unsent) } {
                Ok(()) => {
                    self.keep(connection);
                    return Ok(false);
                }
                Err(NoAnswer::Unsent) => {}
                Err(NoAnswer::Unanswered(_)) => resent = true,
                Err(error) => return Err(error.into()),
            }
            self.change(|kept| kept.open -= 1);
        }
        let mut connection = Connection::open(&self.address).await?;
        self.change(|kept| {
            kept.open += 1;
            kept.most = kept.most.max(kept.open);
        });
        self.ask(&mut connection).await??;
        self.keep(connection);
        Ok(resent)
    }

    /// The outer error is an answer that says no.
    async fn ask(&self, connection: &mut Connection) -> anyhow::Result<Result<(), NoAnswer>> {
        Ok(match connection.send(request("GET", &self.address, self.path, &self.token, None)).await {
            Ok((status, body)) => {
                ensure!(status.is_success(), "{status}: {body}");
                Ok(())
            }
            Err(error) => Err(error),
        })
    }

    fn take(&self) -> Option<Connection> {
        self.change(|kept| kept.idle.pop())
    }

    fn keep(&self, connection: Connection) {
        self.change(|kept| kept.idle.push(connection));
    }

    fn change<T>(&self, change: impl FnOnce(&mut Kept) -> T) -> T {
        change(&mut self.kept.lock().expect("nobody panicked"))
    }
}

mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const WHOLE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]";
    const BROKEN_OFF: &str = "HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\n[";
    const REFUSED: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

    /// A server that gives these answers on every connection, and closes it when it has read one more request, or has broken off.
    async fn pool(answers: &'static [&'static str]) -> Pool {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    for answer in answers.iter().chain([&""]) {
                        if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                            stream.write_all(answer.as_bytes()).await.unwrap();
                        }
                        if *answer == BROKEN_OFF {
                            return;
                        }
                    }
                });
            }
        });
        Pool { address, path: "/", token: String::new(), kept: Mutex::default() }
    }

    #[tokio::test]
    async fn what_a_kept_connection_leaves_unanswered_is_sent_again_once() {
        let pool = pool(&[WHOLE]).await;
        let resent = [pool.get().await.unwrap(), pool.get().await.unwrap(), pool.get().await.unwrap()];
        assert_eq!((resent, pool.change(|kept| kept.most)), ([false, true, true], 1));
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_a_failure_on_a_kept_connection_too() {
        let pool = pool(&[WHOLE, BROKEN_OFF]).await;
        assert!(!pool.get().await.unwrap());
        let error = pool.get().await.unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(NoAnswer::BrokeOff(_))), "{error:#}");
    }

    #[tokio::test]
    async fn a_refusal_is_a_failure_on_a_kept_connection_too() {
        let pool = pool(&[WHOLE, REFUSED]).await;
        assert!(!pool.get().await.unwrap());
        assert!(pool.get().await.unwrap_err().to_string().starts_with("503"));
    }

    #[tokio::test]
    async fn on_a_connection_of_its_own_nothing_is_sent_again() {
        let pool = pool(&[]).await;
        for error in [pool.get_first().await.unwrap_err(), pool.get().await.unwrap_err()] {
            assert!(matches!(error.downcast_ref(), Some(NoAnswer::Unanswered(_))), "{error:#}");
        }
    }
}
