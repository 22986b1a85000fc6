//! Processes of the machine, those of nodes and their containers among them: known by a word among their arguments, or by their container.

use std::path::PathBuf;

use anyhow::ensure;
use rustix::process::{Pid, Signal, kill_process};

use super::{SOON, eventually};

/// Waits until no process has this word among its arguments.
pub async fn gone(word: &str) {
    eventually(SOON, || async {
        ensure!(with_word(word).is_empty(), "a process with {word} still runs");
        Ok(())
    })
    .await;
}

/// Waits until one has.
pub async fn running(word: &str) {
    eventually(SOON, || async {
        ensure!(!with_word(word).is_empty(), "no process with {word} runs");
        Ok(())
    })
    .await;
}

/// Asks every `hello` with this word among its arguments to end. One that has only just started does not hear it: ask again.
pub fn ask_to_end(word: &str) {
    signal(with_word(word), Signal::WINCH);
}

/// Kills every process of a container, as a crash does.
pub fn kill_container(id: &str) {
    let processes = all(|process| std::fs::read_to_string(process.join("cgroup")).is_ok_and(|text| text.contains(id)));
    assert!(!processes.is_empty(), "no process is in the container {id}");
    signal(processes, Signal::KILL);
}

fn with_word(word: &str) -> Vec<Pid> {
    let has = |line: Vec<u8>| line.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes());
    all(|process| std::fs::read(process.join("cmdline")).is_ok_and(has))
}

fn all(wanted: impl Fn(PathBuf) -> bool) -> Vec<Pid> {
    let processes = std::fs::read_dir("/proc").expect("/proc is there").flatten();
    let number = |name: std::ffi::OsString| Pid::from_raw(name.to_str()?.parse().ok()?);
    processes.filter(|process| wanted(process.path())).filter_map(|process| number(process.file_name())).collect()
}

fn signal(processes: Vec<Pid>, signal: Signal) {
    for process in processes {
        let _ = kill_process(process, signal); // fails only if it has ended
    }
}
