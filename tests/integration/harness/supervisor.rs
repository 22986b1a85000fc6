//! The handle of a running script of `tests/cluster`, which supervises the programs of a cluster.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// The script gives up by itself, and says why: 150 s after it started a program that does not get ready. A node has eight.
const START: Duration = Duration::from_secs(900);
const ANSWER: Duration = Duration::from_secs(200);

/// A program of a cluster that a test may take away. Only a [`super::Node`] has those from `Containerd` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    Etcd,
    ApiServer,
    ControllerManager,
    Containerd,
    Buildkitd,
    Kubelet,
    Registry,
    Dockerd,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Containerd => "containerd",
            Self::Buildkitd => "buildkitd",
            Self::Kubelet => "kubelet",
            Self::Registry => "registry",
            Self::Dockerd => "dockerd",
        }
    }
}

/// It ends when this is dropped, and when the process ends without dropping it.
#[derive(Debug)]
pub struct Supervisor {
    directory: PathBuf,
    child: Child,
    conversation: Mutex<Conversation>,
}

#[derive(Debug)]
struct Conversation {
    input: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Supervisor {
    /// Runs `tests/cluster/SCRIPT run --until-eof OPTIONS`, and waits until it is ready.
    pub fn start(script: &str, options: &[&str]) -> Self {
        // A group of its own: Ctrl-C on the terminal goes to the test process, and from there by end of input.
        let mut child = Command::new(scripts().join(script))
            .args(["run", "--until-eof"])
            .args(options)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the scripts of tests/cluster start");
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
        let ready = answers.recv_timeout(START).expect("the cluster is ready in time (its reason is on stderr)");
        let directory = PathBuf::from(ready.strip_prefix("ready ").expect("`ready DIR` comes first"));
        Self { directory, child, conversation: Mutex::new(Conversation { input, answers }) }
    }

    /// The directory of the cluster's files and logs; gone when it has ended.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A kubeconfig of group `system:masters`.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.directory.join("admin.kubeconfig")
    }

    /// Where the API server writes what users in group `plumb-testers` requested.
    pub fn audit_log(&self) -> PathBuf {
        self.directory.join("audit.log")
    }

    /// Makes a client certificate, and gives the kubeconfig that holds it.
    pub fn user(&self, name: &str, groups: &[&str]) -> PathBuf {
        PathBuf::from(self.ask(&format!("user {name} {}", groups.join(" "))))
    }

    /// Kills a program, at once.
    pub fn stop(&self, program: Program) {
        self.ask(&format!("stop {}", program.name()));
    }

    /// Starts it again, same port and data; returns when it, or the API server, is ready.
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
        let mut conversation = self.conversation.lock().expect("no test panicked in here");
        let input = conversation.input.as_mut().expect("open until drop");
        writeln!(input, "{command}").expect("the cluster runs (if it ended, stderr has its reason)");
        let answer = conversation.answers.recv_timeout(ANSWER);
        let answer = answer.unwrap_or_else(|error| panic!("no answer to `{command}`: {error}"));
        let done = answer.strip_prefix("ok ");
        done.unwrap_or_else(|| panic!("`{command}`: {answer}")).to_owned()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let conversation = self.conversation.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        drop(conversation.input.take());
        // It kills its children and removes its directory; neither can take long.
        let _ = self.child.wait();
    }
}

/// Starts `command`, which starts a cluster that prints `ready DIR` and ends with its standard input; gives the command's
/// process and DIR.
pub fn start_under(command: &[&str]) -> (Child, PathBuf) {
    let mut child = Command::new(command[0])
        .args(&command[1..])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut line = String::new();
    let output = child.stdout.take().expect("its output is a pipe");
    BufReader::new(output).read_line(&mut line).expect("it says a line");
    (child, line.trim().strip_prefix("ready ").expect("it is ready").into())
}

/// `tests/cluster`.
pub fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster")
}

/// The directory that a command prints once it has built what is missing in it.
pub fn built(command: &mut Command) -> PathBuf {
    let build = command.stderr(Stdio::inherit()).output().expect("the scripts of tests/cluster start");
    assert!(build.status.success(), "{command:?} failed: {}", build.status);
    PathBuf::from(String::from_utf8(build.stdout).expect("a path in UTF-8").trim_end())
}
