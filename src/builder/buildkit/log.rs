//! BuildKit's status updates, as lines for people, and what is kept of them for a failure.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, Vertex, VertexLog};

use crate::builder::{BuildError, Progress};
use crate::model::scrub::scrub;

/// A failure shows this many lines of its step.
const TAIL: usize = 20;

/// A line is cut into parts of this many bytes.
const LINE: usize = 4 << 10;

/// What has been told of one build.
#[derive(Default)]
pub(in crate::builder) struct Log {
    /// By the daemon's digest.
    steps: HashMap<String, Step>,
    /// Digests in the order of their beginning.
    begun: Vec<String>,
}

#[derive(Default)]
struct Step {
    name: String,
    told: bool,
    completed: bool,
    error: Option<String>,
    /// What was printed since the last end of a line.
    open: Vec<u8>,
    tail: VecDeque<String>,
}

impl Log {
    /// What is new in an update.
    pub fn take(&mut self, update: StatusResponse) -> Vec<Progress> {
        let mut told: Vec<Progress> = update.vertexes.into_iter().filter_map(|vertex| self.vertex(vertex)).collect();
        for entry in update.logs {
            told.extend(self.lines(&entry));
        }
        told
    }

    /// What the classic builder prints: the steps and their lines in one stream.
    pub fn classic(&mut self, text: &str) -> Vec<Progress> {
        let mut told = Vec::new();
        for line in text.split_inclusive('\n') {
            if let Some(step) = line.strip_prefix("Step ").filter(|step| step.contains(" : ")) {
                let (number, command) = step.trim_end().split_once(" : ").unwrap_or_default();
                if let Some(last) = self.begun.last().and_then(|last| self.steps.get_mut(last)) {
                    last.completed = true;
                }
                let name = scrub(&format!("[{number}] {command}"));
                self.steps.insert(number.to_owned(), Step { name: name.clone(), told: true, ..Step::default() });
                self.begun.push(number.to_owned());
                told.push(Progress::Step(name));
            } else if line.starts_with(" ---> ") || line.starts_with("Removing intermediate container ") {
                // Of containers and layers of its own.
            } else if let Some(last) = self.begun.last().cloned() {
                let entry = VertexLog { vertex: last, msg: line.as_bytes().to_vec(), ..VertexLog::default() };
                told.extend(self.lines(&entry));
            }
        }
        told
    }

    fn vertex(&mut self, vertex: Vertex) -> Option<Progress> {
        let step = self.steps.entry(vertex.digest.clone()).or_default();
        step.name = scrub(&vertex.name);
        if !vertex.error.is_empty() {
            step.error = Some(vertex.error);
        }
        step.completed = vertex.completed.is_some();
        if vertex.started.is_none() || step.told {
            return None;
        }
        step.told = true;
        let name = step.name.clone();
        self.begun.push(vertex.digest);
        // What BuildKit does for itself is no step of the Dockerfile.
        let own = name.starts_with("[internal]");
        (!own).then_some(if vertex.cached { Progress::Cached(name) } else { Progress::Step(name) })
    }

    fn lines(&mut self, entry: &VertexLog) -> Vec<Progress> {
        let step = self.steps.entry(entry.vertex.clone()).or_default();
        let mut lines = Vec::new();
        for byte in &entry.msg {
            if *byte != b'\n' {
                step.open.push(*byte);
            }
            if *byte == b'\n' || step.open.len() >= LINE {
                lines.extend(step.end_line());
            }
        }
        lines
    }

    /// A step by the daemon's digest, and the last lines that it printed.
    pub fn step(&self, digest: &str) -> Option<(String, Vec<String>)> {
        let step = self.steps.get(digest)?;
        Some((step.name.clone(), step.last_lines()))
    }

    /// The step that failed and the last lines that it printed.
    pub fn failed(&self) -> Option<(String, Vec<String>)> {
        // Steps that were cancelled because of it have an error too, and began before or after it.
        let failed = |step: &&Step| step.error.as_ref().is_some_and(|error| !error.contains("context canceled"));
        let step = self.begun.iter().filter_map(|digest| self.steps.get(digest)).find(failed)?;
        Some((step.name.clone(), step.last_lines()))
    }

    /// The failure of a build that took this long.
    pub fn time_limit(&self, limit: Duration) -> BuildError {
        let (step, log) = self.running();
        BuildError::TimeLimit { limit, step, log }
    }

    /// The step that has not ended, and the last lines that it printed.
    pub fn running(&self) -> (Option<String>, Vec<String>) {
        let step = self.begun.iter().rev().filter_map(|digest| self.steps.get(digest)).find(|step| !step.completed);
        (step.map(|step| step.name.clone()), step.map(Step::last_lines).unwrap_or_default())
    }
}

impl Step {
    fn end_line(&mut self) -> Option<Progress> {
        let text = clean(&std::mem::take(&mut self.open));
        if text.is_empty() {
            return None;
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(text.clone());
        Some(Progress::Line { step: self.name.clone(), text })
    }

    fn last_lines(&self) -> Vec<String> {
        let open = clean(&self.open);
        let lines = self.tail.iter().cloned().chain((!open.is_empty()).then_some(open));
        lines.collect()
    }
}

/// A line without colours, without what a carriage return wrote over, and without what looks like a credential.
fn clean(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = anstream::adapter::strip_str(text.trim_end()).to_string();
    let last = text.rsplit('\r').next().unwrap_or_default();
    scrub(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(name: &str, msg: &[u8], error: &str) -> StatusResponse {
        let digest = format!("sha256:{name}");
        let vertex = Vertex {
            digest: digest.clone(),
            name: name.to_owned(),
            started: Some(Default::default()),
            error: error.to_owned(),
            ..Vertex::default()
        };
        let log = VertexLog { vertex: digest, msg: msg.to_vec(), ..VertexLog::default() };
        StatusResponse { vertexes: vec![vertex], logs: vec![log], ..StatusResponse::default() }
    }

    fn line(step: &str, text: &str) -> Progress {
        Progress::Line { step: step.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_line_may_come_in_parts_and_is_told_once_whole_without_colours_and_credentials() {
        let mut log = Log::default();
        assert_eq!(
            log.take(update("RUN x", b"one\ntw", "")),
            [Progress::Step("RUN x".to_owned()), line("RUN x", "one")]
        );
        assert_eq!(log.take(update("RUN x", b"o\n\n10%\r20%\n", "")), [line("RUN x", "two"), line("RUN x", "20%")]);
        assert_eq!(log.take(update("RUN x", b"\x1b[31mred\x1b[0m\n", "")), [line("RUN x", "red")]);
        let told = log.take(update("RUN x", b"password=hunter2\n", ""));
        assert!(!format!("{told:?}").contains("hunter2"), "{told:?}");
        assert!(log.take(update("RUN x", b"no end", "")).is_empty());
        assert_eq!(log.running().1.last().map(String::as_str), Some("no end"));
    }

    #[test]
    fn the_step_that_failed_is_not_one_that_was_cancelled_for_it() {
        let mut log = Log::default();
        log.take(update("a", b"a\n", "process x: context canceled"));
        log.take(update("b", b"b\n", "exit code: 1"));
        assert_eq!(log.failed(), Some(("b".to_owned(), vec!["b".to_owned()])));
    }

    #[test]
    fn what_is_kept_has_an_end() {
        let mut log = Log::default();
        log.take(update("a", &vec![b'x'; 1 << 20], ""));
        log.take(update("a", &b"y\n".repeat(10_000), ""));
        let (_, lines) = log.running();
        assert_eq!(lines, vec!["y".to_owned(); TAIL]);
    }
}
