//! Requests at a steady rate, and what became of them.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::http::{Connection, request};

/// Nobody waits longer for a list of tasks.
const PATIENCE: Duration = Duration::from_secs(30);

/// What became of the requests.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How many were answered as they should be, and how long that took.
    pub answered: Vec<Duration>,
    /// How many of them had to be sent again, because the server closed a kept connection while they were on their way.
    pub resent: usize,
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
            let idle = Arc::new(Mutex::new(Vec::new()));
            let (mut ticks, mut asked) = (interval(Duration::from_secs(1) / per_second), JoinSet::new());
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            while !*enough_yet.borrow() {
                ticks.tick().await;
                let (idle, address, token) = (idle.clone(), address.clone(), token.clone());
                asked.spawn(async move {
                    let started = Instant::now();
                    let answer = timeout(PATIENCE, get(&idle, &address, path, &token)).await;
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

/// As clients with a pool do it (RFC 9110, 9.2.2): what could not be sent on a kept connection, or got no answer there because the server
/// closed it just then, is sent on another one. Whether it got no answer at first.
async fn get(idle: &Mutex<Vec<Connection>>, address: &str, path: &str, token: &str) -> anyhow::Result<bool> {
    let mut resent = false;
    loop {
        let kept = idle.lock().expect("nobody panicked").pop();
        let is_kept = kept.is_some();
        let mut connection = match kept {
            Some(connection) => connection,
            None => Connection::open(address).await?,
        };
        if !connection.is_open().await {
            continue;
        }
        match connection.send(request("GET", address, path, token, None)).await {
            Ok(Ok((status, body))) => {
                ensure!(status.is_success(), "{status}: {body}");
                idle.lock().expect("nobody panicked").push(connection);
                return Ok(resent);
            }
            Ok(Err(_)) if is_kept => resent = true,
            Ok(Err(error)) => return Err(error),
            Err(_) => {}
        }
    }
}
