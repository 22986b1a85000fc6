//! One run of git: cleared environment, time limit, output limit, and nothing left running whatever happens.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::RemoteError;

/// A list of a hundred thousand branches is some 10 MiB.
const OUTPUT_LIMIT: u64 = 64 * 1024 * 1024;
/// ssh's debug lines are some 10 KiB.
const ERRORS_LIMIT: u64 = 256 * 1024;

/// What git printed, and how it ended.
pub(super) struct Ended {
    pub status: ExitStatus,
    pub output: Vec<u8>,
    pub errors: String,
}

/// Runs the command until it ends, or kills it and all that it started when `limit` is over or this future is dropped.
pub(super) async fn run(mut command: Command, action: &'static str, limit: Duration) -> Result<Ended, RemoteError> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    // git starts ssh or git-remote-https: all of them get a group of their own, to be killed together.
    command.process_group(0);
    let mut child = command.spawn().map_err(RemoteError::Start)?;
    let group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    let work = async {
        let ((output, too_much), (errors, _)) =
            tokio::join!(collect(output, OUTPUT_LIMIT), collect(errors, ERRORS_LIMIT));
        if too_much {
            return Err(RemoteError::TooMuchOutput { action, limit: OUTPUT_LIMIT });
        }
        let status = child.wait().await.map_err(RemoteError::Start)?;
        Ok(Ended { status, output, errors: String::from_utf8_lossy(&errors).into_owned() })
    };
    let ended = match tokio::time::timeout(limit, work).await {
        Ok(ended) => ended?,
        Err(_) => return Err(RemoteError::TimedOut { action, seconds: limit.as_secs() }),
    };
    group.forget();
    Ok(ended)
}

/// Reads at most `limit` bytes, and throws the rest away so that the writer isn't blocked. True if there was a rest.
async fn collect(stream: Option<impl AsyncRead + Unpin>, limit: u64) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let Some(mut stream) = stream else { return (bytes, false) };
    // A pipe that breaks ends what was printed; the exit status says the rest.
    let _ = (&mut stream).take(limit).read_to_end(&mut bytes).await;
    let rest = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.unwrap_or(0);
    (bytes, rest > 0)
}

/// Kills a process group when dropped, unless its leader was waited for: then the number may be another's.
struct Group(Option<Pid>);

impl Group {
    fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Fails if all of them have ended already.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
