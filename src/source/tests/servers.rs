//! Servers that remotes are tested against: git's own `http-backend` behind TLS, and OpenSSH's sshd. The integration tests have
//! them as well.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long sshd may take to listen.
const LIVE: Duration = Duration::from_secs(10);

/// An https server for the repositories of one directory.
pub struct Https {
    address: String,
    pub port: u16,
    /// The certificate, which is its own authority.
    pub ca_file: PathBuf,
    pub shared: Arc<Shared>,
}

/// What a test can set and see.
#[derive(Default)]
pub struct Shared {
    /// The `Authorization` that is asked for.
    pub wants: Mutex<Option<String>>,
    /// Where every request is redirected to.
    pub redirect: Mutex<Option<String>>,
    /// Requests are accepted and never answered.
    pub silent: AtomicBool,
    /// Answers end after so many bytes of their body (0: whole).
    pub cut: AtomicUsize,
    /// Request lines, with `+auth` if there was an `Authorization`.
    pub seen: Mutex<Vec<String>>,
}

impl Shared {
    pub fn requests(&self, part: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|line| line.contains(part)).count()
    }
}

impl Https {
    /// One for the repositories in `root`, where its certificate is put, too. It listens at this IP address.
    pub fn start(root: &Path, address: &str, name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed(vec![address.to_owned(), "localhost".to_owned()]).unwrap();
        let ca_file = root.join(format!("{name}.pem"));
        std::fs::write(&ca_file, made.cert.pem()).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let (listener, shared) = (TcpListener::bind((address, 0)).unwrap(), Arc::new(Shared::default()));
        let port = listener.local_addr().unwrap().port();
        let (config, root, seen) = (Arc::new(config), root.to_owned(), shared.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (config, root, shared) = (config.clone(), root.clone(), seen.clone());
                std::thread::spawn(move || {
                    let connection = rustls::ServerConnection::new(config).unwrap();
                    // A client that hangs up is the test's business.
                    let _ = serve(rustls::StreamOwned::new(connection, stream), &root, &shared);
                });
            }
        });
        Self { address: address.to_owned(), port, ca_file, shared }
    }

    pub fn url(&self, repository: &str) -> String {
        format!("https://{}:{}/{repository}", self.address, self.port)
    }
}

type Tls = rustls::StreamOwned<rustls::ServerConnection, TcpStream>;

/// One request, one answer.
fn serve(stream: Tls, root: &Path, shared: &Shared) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(());
    }
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header)?;
        match header.trim().split_once(": ") {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.to_owned())),
            None => break,
        }
    }
    let header = |name: &str| headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone());
    let auth = header("authorization");
    let mark = if auth.is_some() { " +auth" } else { "" };
    shared.seen.lock().unwrap().push(format!("{}{mark}", line.trim()));
    while shared.silent.load(Ordering::Relaxed) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    if let Some(target) = shared.redirect.lock().unwrap().clone() {
        let path = line.split(' ').nth(1).unwrap_or_default();
        let answer = format!("HTTP/1.1 301 Moved\r\nLocation: {target}{path}\r\nContent-Length: 0\r\n");
        return finish(stream.get_mut(), answer.as_bytes(), &[]);
    }
    if shared.wants.lock().unwrap().as_ref().is_some_and(|wanted| auth.as_ref() != Some(wanted)) {
        let answer = b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"git\"\r\nContent-Length: 0\r\n";
        return finish(stream.get_mut(), answer, &[]);
    }
    let length = header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let printed = backend(&line, &header, root, &body)?;
    let split = printed.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap_or(printed.len() - 4);
    let (head, body) = (&printed[..split + 2], &printed[split + 4..]);
    let status =
        String::from_utf8_lossy(head).lines().find_map(|line| line.strip_prefix("Status: ").map(str::to_owned));
    let status = status.unwrap_or_else(|| "200 OK".to_owned());
    let start = [format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len()).as_bytes(), head].concat();
    let cut = shared.cut.load(Ordering::Relaxed);
    finish(stream.get_mut(), &start, if cut == 0 { body } else { &body[..cut.min(body.len())] })
}

fn finish(stream: &mut Tls, head: &[u8], body: &[u8]) -> std::io::Result<()> {
    stream.write_all(head)?;
    stream.write_all(b"Connection: close\r\n\r\n")?;
    stream.write_all(body)?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// git's CGI program: RFC 3875.
fn backend(line: &str, header: &impl Fn(&str) -> Option<String>, root: &Path, body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("REQUEST_METHOD", method)
        .env("CONTENT_TYPE", header("content-type").unwrap_or_default())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding").unwrap_or_default())
        .env("GIT_PROTOCOL", header("git-protocol").unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    child.stdin.take().unwrap().write_all(body)?;
    Ok(child.wait_with_output()?.stdout)
}

/// sshd for this user, with keys of its own. Ended when dropped.
pub struct Sshd {
    address: String,
    pub port: u16,
    pub user: String,
    /// The client's private key, which is allowed in.
    pub key: PathBuf,
    pub known_hosts: PathBuf,
    child: Child,
}

impl Sshd {
    /// One that listens at this IP address, with its keys in `directory`. Nothing if there is no sshd on this machine, which is said.
    pub fn start(directory: &Path, address: &str) -> Option<Self> {
        let program = ["/usr/sbin/sshd", "/usr/bin/sshd"].into_iter().find(|path| Path::new(path).exists());
        let Some(program) = program else {
            eprintln!("skipped: there is no sshd on this machine (Debian: openssh-server)");
            return None;
        };
        let port = TcpListener::bind((address, 0)).unwrap().local_addr().unwrap().port();
        let (host_key, key, config) =
            (directory.join("host_key"), directory.join("key"), directory.join("sshd_config"));
        for file in [&host_key, &key] {
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(file).status();
            assert!(made.unwrap().success());
        }
        let public = |file: &Path| std::fs::read_to_string(file.with_extension("pub")).unwrap();
        std::fs::write(directory.join("authorized"), public(&key)).unwrap();
        let known_hosts = directory.join("known_hosts");
        std::fs::write(&known_hosts, format!("[{address}]:{port} {}", public(&host_key))).unwrap();
        let text = format!(
            "ListenAddress {address}:{port}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\nPidFile none\n",
            host_key.display(),
            directory.join("authorized").display()
        );
        std::fs::write(&config, text).unwrap();
        // Debian's sshd wants its directory even when it runs for one user.
        let _ = std::fs::create_dir_all("/run/sshd");
        let mut sshd = Command::new(program);
        let child = sshd.args(["-D", "-e", "-f"]).arg(&config).stderr(Stdio::null()).process_group(0).spawn().unwrap();
        let output = Command::new("id").arg("-un").output().unwrap();
        let user = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        let start = std::time::Instant::now();
        while TcpStream::connect((address, port)).is_err() {
            assert!(start.elapsed() < LIVE, "sshd does not listen");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Some(Self { address: address.to_owned(), port, user, key, known_hosts, child })
    }

    pub fn url(&self, repository: &Path) -> String {
        format!("ssh://{}@{}:{}{}", self.user, self.address, self.port, repository.display())
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
