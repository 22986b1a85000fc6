//! The daemons, and what the tests give them to build.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;

use bytes::Bytes;
use plumb::builder::containerd::Containerd;
use plumb::builder::{BuildError, BuildKit, BuildOrder, Builder, Built, Context, Docker, Endpoint, Progress};
use tokio::sync::{OnceCell, mpsc};

/// containerd and buildkitd. They end when the process does, whatever becomes of this.
pub struct Daemons {
    directory: PathBuf,
    programs: PathBuf,
    supervisor: Mutex<(Child, ChildStdin, BufReader<std::process::ChildStdout>)>,
}

impl Daemons {
    /// Those that all tests share which take nothing away.
    pub fn shared() -> &'static Self {
        static SHARED: std::sync::OnceLock<Daemons> = std::sync::OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[]))
    }

    /// The same with a dockerd beside them.
    pub fn with_docker() -> &'static Self {
        static SHARED: std::sync::OnceLock<Daemons> = std::sync::OnceLock::new();
        SHARED.get_or_init(|| Self::start(&["--docker"]))
    }

    /// The same with the newest dockerd, which keeps its images in containerd.
    pub fn with_newest_docker() -> &'static Self {
        static SHARED: std::sync::OnceLock<Daemons> = std::sync::OnceLock::new();
        SHARED.get_or_init(|| Self::start(&["--runtime=docker"]))
    }

    /// Some for one test alone.
    pub fn start(options: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/node");
        let programs =
            Command::new(&script).args(["build", "--no-kubernetes"]).args(options).stderr(Stdio::inherit()).output();
        let programs = String::from_utf8(programs.expect("the programs are built").stdout).expect("a path");
        let mut child = Command::new(&script)
            .args(["run", "--until-eof", "--no-kubernetes"])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/cluster/node starts");
        let input = child.stdin.take().expect("a pipe");
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        output.read_line(&mut line).expect("its output can be read");
        let directory =
            line.trim_end().strip_prefix("ready ").expect("the daemons are ready (the reason is on stderr)");
        let directory = PathBuf::from(directory);
        Self { directory, programs: PathBuf::from(programs.trim_end()), supervisor: Mutex::new((child, input, output)) }
    }

    pub fn buildkitd(&self) -> Endpoint {
        Endpoint::Unix(self.directory.join("run/buildkit/buildkitd.sock"))
    }

    pub fn containerd(&self) -> Endpoint {
        Endpoint::Unix(self.directory.join("run/containerd/containerd.sock"))
    }

    pub fn docker(&self) -> Docker {
        Docker::new(Endpoint::Unix(self.directory.join("run/docker.sock")))
    }

    pub fn builder(&self) -> BuildKit {
        BuildKit::new(self.buildkitd(), Containerd::new(self.containerd()))
    }

    /// Ends a program at once.
    pub fn stop(&self, program: &str) {
        let (_, input, output) = &mut *self.supervisor.lock().expect("no test panicked in here");
        writeln!(input, "stop {program}").expect("the supervisor runs");
        let mut answer = String::new();
        output.read_line(&mut answer).expect("it answers");
        assert!(answer.starts_with("ok"), "stop {program}: {answer}");
    }

    /// Gives the disk of option `--disk` more room.
    pub fn make_room(&self, size: &str) {
        crate::harness::make_room(&self.directory, size);
    }

    /// containerd's own client, in the kubelet's namespace.
    pub fn ctr(&self, args: &[&str]) -> String {
        self.ctr_of("k8s.io", args)
    }

    /// The same in another namespace.
    pub fn ctr_of(&self, namespace: &str, args: &[&str]) -> String {
        let mut ctr = Command::new(self.programs.join("ctr"));
        ctr.arg("-a").arg(self.directory.join("run/containerd/containerd.sock")).args(["-n", namespace]).args(args);
        printed(&mut ctr)
    }

    /// Docker's own client.
    pub fn docker_cli(&self, args: &[&str]) -> String {
        let socket = format!("unix://{}", self.directory.join("run/docker.sock").display());
        printed(Command::new("docker").args(["--host", &socket]).args(args))
    }

    /// A file or directory of the node's, as the machine sees it.
    pub fn at(&self, path: &str) -> PathBuf {
        self.directory.join(path.trim_start_matches('/'))
    }
}

/// What a program prints, which must end well.
fn printed(program: &mut Command) -> String {
    let done = program.stdin(Stdio::null()).output().expect("it starts");
    assert!(done.status.success(), "{program:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("it prints UTF-8").trim_end().to_owned()
}

/// A context of these files, each with its mode.
pub fn context(files: &[(&str, u32, &[u8])]) -> Context {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, mode, data) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(*mode);
        header.set_size(data.len() as u64);
        header.set_mtime(0);
        archive.append_data(&mut header, path, *data).expect("a tar in memory");
    }
    let tar = Bytes::from(archive.into_inner().expect("a tar in memory"));
    Box::pin(futures::stream::iter([Ok(tar)]))
}

/// A context of a Dockerfile alone.
pub fn dockerfile(text: &str) -> Context {
    context(&[("Dockerfile", 0o644, text.as_bytes())])
}

pub fn order(reference: &str) -> BuildOrder {
    BuildOrder { reference: reference.to_owned(), dockerfile: "Dockerfile".to_owned(), ..BuildOrder::default() }
}

/// The same upon these bases of the repository.
pub fn upon(reference: &str, bases: BTreeMap<String, String>) -> BuildOrder {
    BuildOrder { bases, ..order(reference) }
}

/// Builds it, and gives the log as well.
pub async fn build(
    builder: &dyn Builder,
    order: &BuildOrder,
    context: Context,
) -> (Result<Built, BuildError>, Vec<Progress>) {
    let (log, mut lines) = mpsc::channel(8);
    let told = async {
        let mut told = Vec::new();
        while let Some(line) = lines.recv().await {
            told.push(line);
        }
        told
    };
    tokio::join!(builder.build(order, context, log), told)
}

/// The failure that a Dockerfile ends in.
pub async fn fails(builder: &dyn Builder, order: &BuildOrder, context: Context) -> BuildError {
    match build(builder, order, context).await {
        (Err(error), _) => error,
        (Ok(built), log) => panic!("{} was built: {built:?}, {log:#?}", order.reference),
    }
}

/// An image with `/bin/sh` and `/bin/sleep` at the shared daemons, as a base of this repository.
pub async fn shell() -> BTreeMap<String, String> {
    static SHELL: OnceCell<BTreeMap<String, String>> = OnceCell::const_new();
    let bases = SHELL.get_or_init(async || {
        let daemons = Daemons::shared();
        build_shell(&daemons.builder()).await
    });
    bases.await.clone()
}

/// The same at another builder.
pub async fn build_shell(builder: &dyn Builder) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for program in ["/bin/sh", "/bin/sleep"] {
        files.insert(program.to_owned(), std::fs::read(program).expect("a program of the machine"));
        let needs = Command::new("ldd").arg(program).output().expect("ldd runs").stdout;
        let needs = String::from_utf8(needs).expect("paths");
        for library in needs.split_whitespace().filter(|word| word.starts_with('/')) {
            files.insert(library.to_owned(), std::fs::read(library).expect("a library of the machine"));
        }
    }
    let files: Vec<(String, Vec<u8>)> = files.into_iter().map(|(path, data)| (format!("root{path}"), data)).collect();
    let mut entries: Vec<(&str, u32, &[u8])> =
        files.iter().map(|(path, data)| (path.as_str(), 0o755, data.as_slice())).collect();
    entries.push(("Dockerfile", 0o644, b"FROM scratch\nCOPY root /\nENV PATH=/bin\n"));
    let (built, log) = build(builder, &order("shell:1"), context(&entries)).await;
    built.unwrap_or_else(|error| panic!("{error}: {log:#?}"));
    BTreeMap::from([("shell".to_owned(), "shell:1".to_owned())])
}
