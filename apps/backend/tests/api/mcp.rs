//! The real MCP server, built from its own sources beside these.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use crate::harness::SECRET;

/// The program, built once for all tests; where the sources of this package stand alone there is none, and the tests fail.
static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../mcp/Cargo.toml");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked", "--message-format=json", "--manifest-path", manifest]);
    // What cargo tells a test of its own package would be news to build scripts: they, and half of the tree, would run again.
    let told = std::env::vars().map(|(name, _)| name);
    let own =
        |name: &String| name == "OUT_DIR" || ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|of| name.starts_with(of));
    told.filter(own).for_each(|name| {
        build.env_remove(name);
    });
    let output = build.stderr(Stdio::inherit()).output().expect("cargo can be run");
    assert!(output.status.success(), "the MCP server can't be built");
    let messages = output.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    let mut program =
        messages.filter_map(|message: serde_json::Value| Some(message["executable"].as_str()?.to_owned()));
    program.next_back().expect("cargo says where the program is").into()
});

/// A process of it. Dropped, it is killed.
pub struct Mcp {
    child: Child,
    /// For `MCP_URL`.
    pub url: String,
}

impl Mcp {
    /// On this database.
    pub fn start(database: &str) -> Self {
        let mut command = Command::new(&*PROGRAM);
        command.env_clear().envs([("DATABASE_URL", database), ("JWT_SECRET", SECRET), ("LISTEN", "127.0.0.1:0")]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the MCP server can be started");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let line: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).expect("it logs JSON");
        let url = format!("http://{}/mcp", line["address"].as_str().expect("it says where it listens first"));
        // Nobody reads on, but somebody must, or it would end up waiting for its log.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url }
    }
}

impl Drop for Mcp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
