//! What a render is asked for, and what it answers.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::model::{Desired, EnvironmentSpec, Kinds};
use crate::source::Snapshot;

/// One environment at one commit.
pub struct Request<'a> {
    /// The commit's files.
    pub snapshot: &'a Snapshot,
    /// The environment's name; a Helm release has the same.
    pub environment: &'a str,
    /// Its definition.
    pub spec: &'a EnvironmentSpec,
    /// The value of the ApplySet label.
    pub part_of: &'a str,
    /// The kinds that the API server serves.
    pub kinds: &'a Kinds,
    /// Changes whenever `kinds` does.
    pub kinds_generation: u64,
    /// The programs that render charts and kustomizations.
    pub tools: &'a Tools,
    /// Set to stop the render: a running child is killed.
    pub cancel: &'a AtomicBool,
}

/// The programs that render charts and kustomizations, and what they may use.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Helm 4, if there is one.
    pub helm: Option<PathBuf>,
    /// What builds kustomizations, if there is something.
    pub kustomize: Option<Kustomize>,
    /// How long one run may take.
    pub time_limit: Duration,
    /// How many bytes one run may print.
    pub output_limit: usize,
    /// The `imagePullPolicy` that containers need of the images that are built for them; `None` leaves what git says.
    pub pull_policy: Option<&'static str>,
}

/// A program that builds kustomizations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kustomize {
    /// `kubectl kustomize`.
    Kubectl(PathBuf),
    /// `kustomize build`.
    Kustomize(PathBuf),
}

impl Default for Tools {
    /// No programs; 60 seconds and 64 MiB.
    fn default() -> Self {
        Self {
            helm: None,
            kustomize: None,
            time_limit: Duration::from_secs(60),
            output_limit: 64 << 20,
            pull_policy: None,
        }
    }
}

impl Tools {
    /// The programs found in the directories of a `PATH`.
    pub fn find(path: &std::ffi::OsStr) -> Self {
        let find =
            |name: &str| std::env::split_paths(path).map(|directory| directory.join(name)).find(|file| file.is_file());
        let kustomize = find("kustomize").map(Kustomize::Kustomize).or_else(|| find("kubectl").map(Kustomize::Kubectl));
        Self { helm: find("helm"), kustomize, ..Self::default() }
    }
}

/// The answer to a [`Request`].
#[derive(Debug)]
pub enum Rendered {
    /// Nothing that was read has changed since the last render: its objects, for this commit.
    Same(Desired),
    /// Rendered anew.
    New(Desired),
}

impl Rendered {
    /// The objects, either way.
    pub fn into_desired(self) -> Desired {
        match self {
            Self::Same(desired) | Self::New(desired) => desired,
        }
    }
}
