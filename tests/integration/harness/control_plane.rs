//! A control plane of one's own: the handle of a running `tests/cluster/control-plane`.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

/// The supervisor gives up after 60 s by itself, and says why.
const START: Duration = Duration::from_secs(90);
const ANSWER: Duration = Duration::from_secs(75);

/// A program of the control plane that a test may take away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    Etcd,
    ApiServer,
    ControllerManager,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
        }
    }
}

/// etcd, kube-apiserver and, if asked for, kube-controller-manager. They end when this is dropped, and also when the
/// process ends without dropping it, killed or not: the supervisor notices that its standard input is closed.
#[derive(Debug)]
pub struct ControlPlane {
    directory: PathBuf,
    supervisor: Mutex<Supervisor>,
}

#[derive(Debug)]
struct Supervisor {
    child: Child,
    input: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl ControlPlane {
    /// Starts one; about 320 MiB, and 100 MiB more and some load with the controller-manager.
    pub fn start(controller_manager: bool) -> Self {
        bin_directory(); // built before the clock of START runs
        let mut command = Command::new(scripts().join("control-plane"));
        command.args(["run", "--until-eof"]);
        if !controller_manager {
            command.arg("--no-controller-manager");
        }
        // A group of its own: Ctrl-C on the terminal goes to the test process, and from there by end of input.
        let mut child = command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/cluster/control-plane starts");
        let input = child.stdin.take();
        let output = child.stdout.take().expect("its output is a pipe");
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let supervisor = Supervisor { child, input, answers };
        let ready = supervisor
            .answers
            .recv_timeout(START)
            .expect("the control plane is ready in time (its reason is on stderr)");
        let directory = ready.strip_prefix("ready ").expect("`ready DIR` comes first");
        Self { directory: PathBuf::from(directory), supervisor: Mutex::new(supervisor) }
    }

    /// A kubeconfig of group `system:masters`.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.directory.join("admin.kubeconfig")
    }

    /// Where the API server writes what users in group `plumb-testers` requested.
    pub fn audit_log(&self) -> PathBuf {
        self.directory.join("audit.log")
    }

    /// The directory of the cluster's files and logs; gone when it has ended.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes a client certificate, and gives the kubeconfig that holds it.
    pub fn user(&self, name: &str, groups: &[&str]) -> PathBuf {
        PathBuf::from(self.ask(&format!("user {name} {}", groups.join(" "))))
    }

    /// Kills a program, at once.
    pub fn stop(&self, program: Program) {
        self.ask(&format!("stop {}", program.name()));
    }

    /// Starts it again, same port and data; returns when the API server is ready.
    pub fn start_again(&self, program: Program) {
        self.ask(&format!("start {}", program.name()));
    }

    /// Freezes a program: connections to it are accepted by the kernel, and hang.
    pub fn pause(&self, program: Program) {
        self.ask(&format!("pause {}", program.name()));
    }

    /// Lets it go on.
    pub fn resume(&self, program: Program) {
        self.ask(&format!("resume {}", program.name()));
    }

    fn ask(&self, command: &str) -> String {
        let mut supervisor = self.supervisor.lock().expect("no test panicked in here");
        let input = supervisor.input.as_mut().expect("open until drop");
        writeln!(input, "{command}").expect("the control plane runs (if it ended, stderr has its reason)");
        let answer = supervisor.answers.recv_timeout(ANSWER);
        let answer = answer.unwrap_or_else(|error| panic!("no answer to `{command}`: {error}"));
        let done = answer.strip_prefix("ok ");
        done.unwrap_or_else(|| panic!("`{command}`: {answer}")).to_owned()
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        let supervisor = self.supervisor.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        drop(supervisor.input.take());
        // It kills its children and removes its directory; neither can take long.
        let _ = supervisor.child.wait();
    }
}

/// Where helm, kubectl and the servers are, built if need be: the first time that takes minutes.
pub fn bin_directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let build = Command::new(scripts().join("build")).stderr(Stdio::inherit()).output();
        let build = build.expect("tests/cluster/build starts");
        assert!(build.status.success(), "tests/cluster/build failed: {}", build.status);
        PathBuf::from(String::from_utf8(build.stdout).expect("a path in UTF-8").trim_end())
    })
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster")
}
