//! A PostgreSQL of the tests' own, from Debian's package `postgresql`: on a unix socket in a temporary directory, as a user
//! without rights if the tests run as root (which PostgreSQL refuses). Included by path in the tests of the applications.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Serves until its standard input ends, which it does however the tests end; then it tidies up.
const SERVE: &str = r#"
set -eu
bin=$1 directory=$2
shift 2
cd "$directory"
[ -e data ] || "$bin"initdb -D data -U postgres -A trust -E UTF8 --no-sync >initdb.log 2>&1
"$bin"postgres -D data -k "$directory" -c listen_addresses= -c fsync=off "$@" >>postgres.log 2>&1 &
read -r _ || true
kill -INT $!
wait
[ -e keep ] || rm -rf "$directory"
"#;

/// One server, and the directory that is its own.
pub struct Postgres {
    directory: PathBuf,
    port: u16,
    settings: Vec<String>,
    process: Option<Child>,
}

/// The server that tests share: one for each test program.
static SHARED: LazyLock<Postgres> = LazyLock::new(|| {
    let mut server = Postgres::prepare();
    server.start();
    server
});
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// The URL of a new, empty database on the shared server.
pub fn database() -> String {
    SHARED.database(&format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed)))
}

impl Postgres {
    /// A server that does not run yet; its URLs are known already.
    pub fn prepare() -> Self {
        let directory = std::env::temp_dir().join(format!("todo-postgres-{:016x}", rand()));
        let made = as_user("mkdir").arg("-m").arg("0755").arg(&directory).status();
        assert!(made.expect("mkdir can be run").success());
        Self { directory, port: 5432, settings: Vec::new(), process: None }
    }

    /// Lets it listen on a port of `localhost` as well, with these settings, before it starts. The port.
    pub fn listen(&mut self, settings: &[&str]) -> u16 {
        // Below the ports that the kernel gives away: none of our own programs gets it before this one starts.
        let ports = std::iter::repeat_with(|| 20_000 + u16::try_from(rand() % 10_000).expect("a small number"));
        let free = ports.map(|port| TcpListener::bind(("127.0.0.1", port))).find_map(Result::ok);
        let free = free.and_then(|listener| listener.local_addr().ok()).expect("a free port");
        let port = format!("port={}", free.port());
        let all = [&["listen_addresses=localhost", &port], settings].concat();
        self.settings = all.into_iter().flat_map(|setting| ["-c".to_owned(), setting.to_owned()]).collect();
        self.port = free.port();
        self.port
    }

    /// Where it keeps what it has, and finds files that settings name.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts it, and waits until it answers.
    pub fn start(&mut self) {
        let _ = std::fs::remove_file(self.directory.join("keep"));
        let mut serve = as_user("sh");
        // A group of its own: Ctrl-C ends the tests, and by that the server in good order.
        serve
            .args(["-c", SERVE, "sh", &bin()])
            .arg(&self.directory)
            .args(&self.settings)
            .stdin(Stdio::piped())
            .process_group(0);
        let mut process = serve.spawn().expect("sh can be run");
        while !self.run("pg_isready", &["-q"]).status.success() {
            if let Some(status) = process.try_wait().expect("the server can be asked about") {
                let log = ["initdb.log", "postgres.log"].map(|name| std::fs::read_to_string(self.directory.join(name)));
                panic!("PostgreSQL did not start ({status}): {log:?}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.process = Some(process);
    }

    /// Stops it; its data stay for the next start.
    pub fn stop(&mut self) {
        std::fs::write(self.directory.join("keep"), "").expect("its directory can be written");
        self.end();
    }

    /// Creates a database. Its URL.
    pub fn database(&self, name: &str) -> String {
        let output = self.run("createdb", &["-U", "postgres", name]);
        assert!(output.status.success(), "{output:?}");
        self.url(name)
    }

    /// The URL of a database, whether it is there or not.
    pub fn url(&self, name: &str) -> String {
        format!("postgresql://postgres@localhost/{name}?host={}", self.directory.display())
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let program = format!("{}{program}", bin());
        let port = self.port.to_string();
        let mut command = Command::new(program);
        command.arg("-h").arg(&self.directory).args(["-p", &port]).args(arguments);
        command.output().expect("PostgreSQL is installed")
    }

    fn end(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.stdin.take());
            process.wait().expect("the server can be waited for");
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.end();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Debian keeps the programs of each version apart: those of the newest; elsewhere they are on the PATH.
fn bin() -> String {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.map(|entry| entry.path()).max_by_key(|path| version(path));
    newest.map(|path| format!("{}/bin/", path.display())).unwrap_or_default()
}

/// A command as the user that the server runs as.
pub fn as_user(program: &str) -> Command {
    let id = Command::new("id").arg("-u").output().expect("id can be run");
    if id.stdout.trim_ascii() != b"0" {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", program]);
    command
}

fn rand() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}
