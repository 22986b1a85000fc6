//! Runs a program that renders: without the caller's environment, in its own process group, within limits of time and output.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::request::Tools;

/// How much of a program's complaints is kept.
const STDERR: usize = 64 << 10;
/// How often the child is looked at. A render takes tens of milliseconds.
const TICK: Duration = Duration::from_millis(2);

/// Why a program gave no output.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started.
    #[error("cannot start {program}")]
    Start {
        /// The program.
        program: String,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// Its output could not be read, or its end not be waited for.
    #[error("cannot follow {program}")]
    Follow {
        /// The program.
        program: String,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// It ran too long.
    #[error("{program} was stopped after {}", humantime::format_duration(*.limit))]
    TimeLimit {
        /// The program.
        program: String,
        /// How long it may run.
        limit: Duration,
    },
    /// It printed too much.
    #[error("{program} was stopped: it printed more than {limit} bytes")]
    OutputLimit {
        /// The program.
        program: String,
        /// How much it may print.
        limit: usize,
    },
    /// The render was cancelled.
    #[error("{program} was stopped: the render was cancelled")]
    Cancelled {
        /// The program.
        program: String,
    },
}

/// How a program ended.
pub(super) struct Ended {
    pub success: bool,
    pub stdout: Vec<u8>,
    /// The beginning of what it complained about; not yet safe to show.
    pub stderr: String,
}

/// A program ready to run in `directory`. Its environment has no `PATH`, no configuration, no credentials and no way to a network; `home` is a
/// private directory for whatever it wants to keep.
pub(super) fn command(program: &Path, directory: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory).env_clear().env("PATH", "").env("HOME", home).env("TMPDIR", home);
    for proxy in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        // Port 9 of this machine is nobody: a second line behind the checks that refuse whatever would dial out.
        command.env(proxy, "http://127.0.0.1:9");
    }
    for directory in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME", "HELM_PLUGINS", "XDG_CONFIG_HOME"] {
        command.env(directory, home.join(directory));
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    command
}

/// Runs it to its end, or kills it and whatever it started.
pub(super) fn run(mut command: Command, tools: &Tools, cancel: &AtomicBool) -> Result<Ended, ProcessError> {
    let program = name(command.get_program());
    let start = |source| ProcessError::Start { program: program.clone(), source };
    let follow = |source| ProcessError::Follow { program: program.clone(), source };
    let mut child = command.spawn().map_err(start)?;
    let too_much = Arc::new(AtomicBool::new(false));
    let stdout = reader(child.stdout.take(), tools.output_limit, Some(too_much.clone()));
    let stderr = reader(child.stderr.take(), STDERR, None);

    let deadline = Instant::now() + tools.time_limit;
    let stopped = loop {
        if has_ended(&child).map_err(follow)? {
            break None;
        }
        if cancel.load(Ordering::Relaxed) {
            break Some(ProcessError::Cancelled { program: program.clone() });
        }
        if too_much.load(Ordering::Relaxed) {
            break Some(ProcessError::OutputLimit { program: program.clone(), limit: tools.output_limit });
        }
        if Instant::now() >= deadline {
            break Some(ProcessError::TimeLimit { program: program.clone(), limit: tools.time_limit });
        }
        std::thread::sleep(TICK);
    };
    // Before the child is reaped: until then its id is its own, and so is its group's.
    kill_group(&child);
    let status = child.wait().map_err(follow)?;
    let stdout = stdout.join().unwrap_or_else(|_| Err(std::io::Error::other("a reader panicked"))).map_err(follow)?;
    let stderr = stderr.join().unwrap_or_else(|_| Err(std::io::Error::other("a reader panicked"))).map_err(follow)?;
    if let Some(stopped) = stopped {
        return Err(stopped);
    }
    if too_much.load(Ordering::Relaxed) {
        return Err(ProcessError::OutputLimit { program, limit: tools.output_limit });
    }
    Ok(Ended { success: status.success(), stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() })
}

/// Whether the child has ended; it stays to be reaped.
fn has_ended(child: &Child) -> std::io::Result<bool> {
    let Some(pid) = pid(child) else { return Ok(true) };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Ok(waitid(WaitId::Pid(pid), options)?.is_some())
}

/// Kills the child and all it started; nobody left is fine.
fn kill_group(child: &Child) {
    if let Some(pid) = pid(child) {
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

fn pid(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

type Reader = std::thread::JoinHandle<std::io::Result<Vec<u8>>>;

/// Reads up to `limit` bytes, then says so and swallows the rest, so that the child never blocks on a full pipe.
fn reader(pipe: Option<impl Read + Send + 'static>, limit: usize, exceeded: Option<Arc<AtomicBool>>) -> Reader {
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        let Some(mut pipe) = pipe else { return Ok(kept) };
        (&mut pipe).take(limit as u64).read_to_end(&mut kept)?;
        if std::io::copy(&mut pipe.by_ref().take(1), &mut std::io::sink())? > 0 {
            if let Some(exceeded) = exceeded {
                exceeded.store(true, Ordering::Relaxed);
            }
            std::io::copy(&mut pipe, &mut std::io::sink())?;
        }
        Ok(kept)
    })
}

fn name(program: &OsStr) -> String {
    Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, tools: &Tools, cancel: &AtomicBool) -> Result<Ended, ProcessError> {
        let home = tempfile::tempdir().unwrap();
        let mut command = command(Path::new("/bin/sh"), home.path(), home.path());
        command.args(["-c", script]);
        run(command, tools, cancel)
    }

    fn limited(milliseconds: u64, output_limit: usize) -> Tools {
        Tools { time_limit: Duration::from_millis(milliseconds), output_limit, ..Tools::default() }
    }

    #[test]
    fn a_program_sees_nothing_of_our_environment() {
        let ended = shell("set; echo oops >&2; exit 3", &Tools::default(), &AtomicBool::new(false)).unwrap();
        let text = String::from_utf8(ended.stdout).unwrap();
        assert!(!text.contains("CARGO") && text.contains("PATH=''"), "{text}");
        assert_eq!((ended.success, &*ended.stderr), (false, "oops\n"));
    }

    #[test]
    fn what_runs_too_long_dies_with_all_it_started() {
        let started = Instant::now();
        // The grandchild holds the pipe open: were it alive, the run would not end.
        let result = shell("/bin/sleep 60 & /bin/sleep 60", &limited(50, 1000), &AtomicBool::new(false));
        assert!(matches!(result, Err(ProcessError::TimeLimit { .. })));
        let result = shell("/bin/sleep 60 & echo done", &limited(30_000, 1000), &AtomicBool::new(false));
        assert_eq!(result.unwrap().stdout, b"done\n");
        let result = shell("/bin/sleep 60", &limited(30_000, 1000), &AtomicBool::new(true));
        assert!(matches!(result, Err(ProcessError::Cancelled { .. })));
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn what_prints_too_much_is_stopped() {
        let result = shell("while :; do echo xxxxxxxxxxxxxxxx; done", &limited(30_000, 1000), &AtomicBool::new(false));
        assert!(matches!(result, Err(ProcessError::OutputLimit { .. })));
        let loud = "i=0; while [ $i -lt 20000 ]; do echo xxxxxxxxxxxxxxxx >&2; i=$((i+1)); done";
        let ended = shell(loud, &limited(30_000, 1000), &AtomicBool::new(false)).unwrap();
        assert_eq!((ended.success, ended.stderr.len()), (true, STDERR));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let home = tempfile::tempdir().unwrap();
        let missing = command(Path::new("/nowhere/helm"), home.path(), home.path());
        let error = run(missing, &Tools::default(), &AtomicBool::new(false)).err().unwrap();
        assert_eq!(error.to_string(), "cannot start helm");
    }
}
