//! The built program as a process, with what it prints.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::control_plane::bin_directory;

/// A running `plumb`. It is killed when this is dropped, or when the thread that spawned it ends.
#[derive(Debug)]
pub struct Plumb {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    readers: [JoinHandle<()>; 2],
}

impl Plumb {
    /// Starts `plumb ARGS` as the user of `kubeconfig`, with helm and kubectl on the PATH, without colours.
    pub fn spawn<A: AsRef<OsStr>>(kubeconfig: &Path, args: impl IntoIterator<Item = A>) -> Self {
        Self::spawn_with(kubeconfig, args, |_| {})
    }

    /// The same, `adjust` having the last word (working directory, environment).
    pub fn spawn_with<A: AsRef<OsStr>>(
        kubeconfig: &Path,
        args: impl IntoIterator<Item = A>,
        adjust: impl FnOnce(&mut Command),
    ) -> Self {
        Self::spawn_program(env!("CARGO_BIN_EXE_plumb"), kubeconfig, args, adjust)
    }

    /// The same for another program: a wrapper around plumb, or what stands in for it in a test of this handle.
    pub fn spawn_program<A: AsRef<OsStr>>(
        program: &str,
        kubeconfig: &Path,
        args: impl IntoIterator<Item = A>,
        adjust: impl FnOnce(&mut Command),
    ) -> Self {
        // setpriv becomes the program (same process id), which the kernel then kills should this process be killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", program]).args(args);
        command.env("KUBECONFIG", kubeconfig).env("NO_COLOR", "1").env("PATH", path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        adjust(&mut command);
        let mut child = command.spawn().expect("plumb starts");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let readers = [
            collect(child.stdout.take().expect("its output is a pipe"), &lines),
            collect(child.stderr.take().expect("its errors are a pipe"), &lines),
        ];
        Self { child, lines, readers }
    }

    /// What it has printed so far, both streams, in the order in which the lines arrived.
    pub fn log(&self) -> Vec<String> {
        self.lines.lock().expect("no reader panicked").clone()
    }

    /// All that it has printed, once it has ended.
    pub async fn output(&self) -> String {
        super::eventually(Duration::from_secs(10), || async {
            anyhow::ensure!(self.readers.iter().all(JoinHandle::is_finished), "its output is still open");
            Ok(self.log().join("\n"))
        })
        .await
    }

    /// How many lines there are: give it to [`Self::wait_for_log_after`].
    pub fn log_len(&self) -> usize {
        self.lines.lock().expect("no reader panicked").len()
    }

    /// The first line that `wanted` says yes to, as soon as it is there.
    pub async fn wait_for_log(&mut self, wanted: impl Fn(&str) -> bool, timeout: Duration) -> String {
        self.wait_for_log_after(0, wanted, timeout).await
    }

    /// The same, looking only at lines from number `start` on. Panics when the time is over or plumb has ended.
    pub async fn wait_for_log_after(
        &mut self,
        start: usize,
        wanted: impl Fn(&str) -> bool,
        timeout: Duration,
    ) -> String {
        let started = Instant::now();
        let mut seen = start;
        let mut ended = None;
        loop {
            let new: Vec<String> = self.lines.lock().expect("no reader panicked").iter().skip(seen).cloned().collect();
            seen += new.len();
            if let Some(line) = new.into_iter().find(|line| wanted(line)) {
                return line;
            }
            if let Some(status) = ended.filter(|_| self.readers.iter().all(JoinHandle::is_finished)) {
                panic!("plumb ended ({status}) without the line; it said:\n{}", self.tail());
            }
            if started.elapsed() > timeout {
                panic!("no such line within {timeout:?}; plumb said:\n{}", self.tail());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            // Its last lines may still be on their way when it has ended: one more look when they have been read.
            ended =
                self.child.try_wait().expect("its status").filter(|_| self.readers.iter().all(JoinHandle::is_finished));
        }
    }

    /// Waits for its end; panics when the time is over.
    pub async fn wait(&mut self, timeout: Duration) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("its status") {
                return status;
            }
            assert!(started.elapsed() <= timeout, "plumb runs after {timeout:?}; it said:\n{}", self.tail());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// SIGKILL, at once: as a crash or a lost node.
    pub fn kill(&mut self) {
        let _ = self.child.kill(); // fails only if it has ended
        let _ = self.child.wait();
    }

    /// SIGTERM, and waits for the end, as a kubelet does.
    pub async fn terminate(&mut self, timeout: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(timeout).await
    }

    /// Sends it `signal`.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("plumb runs");
    }

    /// The most memory that it has held (VmHWM), in bytes.
    pub fn peak_rss(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// The memory that it holds now (VmRSS), in bytes.
    pub fn rss(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// Where it takes connections, over TCP or at a socket of the file system: `127.0.0.1:8080`, a path; a form of its own for IPv6.
    pub fn listening(&self) -> Vec<String> {
        let process = format!("/proc/{}", self.child.id());
        let descriptors = std::fs::read_dir(format!("{process}/fd")).expect("plumb runs").flatten();
        let targets = descriptors.filter_map(|descriptor| std::fs::read_link(descriptor.path()).ok());
        let sockets: Vec<String> = targets.filter_map(|target| socket_number(target.to_str()?)).collect();
        let table = |name: &str| std::fs::read_to_string(format!("{process}/net/{name}")).unwrap_or_default();
        let mut found = Vec::new();
        for line in ["tcp", "tcp6"].map(table).iter().flat_map(|table| table.lines()) {
            if let [_, address, _, "0A", _, _, _, _, _, inode, ..] = *line.split_whitespace().collect::<Vec<_>>()
                && sockets.iter().any(|socket| socket == inode)
            {
                found.push(ipv4(address).unwrap_or_else(|| address.to_owned()));
            }
        }
        for line in table("unix").lines() {
            // The fourth column are the flags, of which only `__SO_ACCEPTCON` is ever set.
            if let [_, _, _, "00010000", _, _, inode, ref path @ ..] = *line.split_whitespace().collect::<Vec<_>>()
                && sockets.iter().any(|socket| socket == inode)
            {
                found.push(path.join(" "));
            }
        }
        found
    }

    fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("plumb runs");
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")).and_then(|kib| kib.parse::<u64>().ok());
        kib.unwrap_or_else(|| panic!("{field} is not in /proc/{}/status", self.child.id())) * 1024
    }

    fn tail(&self) -> String {
        let log = self.log();
        log[log.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Plumb {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("plumb said last:\n{}", self.tail());
        }
    }
}

/// Reads on a thread of its own, so that plumb never waits for a test to read.
fn collect(stream: impl Read + Send + 'static, lines: &Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    let lines = Arc::clone(lines);
    std::thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while matches!(stream.read_until(b'\n', &mut line), Ok(1..)) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if let Ok(mut lines) = lines.lock() {
                lines.push(text);
            }
        }
    })
}

/// The number in `socket:[4711]`.
fn socket_number(target: &str) -> Option<String> {
    Some(target.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
}

/// An address as the kernel's tables have it: `0100007F:1F90` is 127.0.0.1:8080.
fn ipv4(text: &str) -> Option<String> {
    let (address, port) = text.split_once(':').filter(|(address, _)| address.len() == 8)?;
    let address = std::net::Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?.to_ne_bytes());
    Some(format!("{address}:{}", u16::from_str_radix(port, 16).ok()?))
}

fn path() -> std::ffi::OsString {
    let old = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(bin_directory().to_path_buf()).chain(std::env::split_paths(&old));
    std::env::join_paths(all).expect("a PATH")
}
