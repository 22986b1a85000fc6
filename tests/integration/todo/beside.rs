//! Programs that run beside the node: the database, the scripted model, the browser's driver.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

/// Programs start within this time, on a busy machine too.
const START: Duration = Duration::from_secs(90);

/// A program that ends with its standard input, or else is killed with its children, when this is dropped or the process ends.
pub struct Beside {
    child: Child,
}

impl Beside {
    /// Starts `program` in a process namespace of its own, of which nothing outlives it. Gives the first line that `ready` says something of.
    pub fn start<T>(program: &mut Command, ready: impl Fn(&str) -> Option<T>) -> (Self, T) {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
        command.arg(program.get_program()).args(program.get_args());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let output = child.stdout.take().expect("its output is a pipe");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // Whoever waited for the first lines may have gone: the pipe is read all the same.
                let _ = sender.send(line);
            }
        });
        let beside = Self { child };
        loop {
            let line = lines.recv_timeout(START).unwrap_or_else(|error| panic!("{program:?} is not ready: {error}"));
            if let Some(said) = ready(&line) {
                return (beside, said);
            }
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let ended = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            matches!(self.child.try_wait(), Ok(Some(_)))
        });
        if !ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
