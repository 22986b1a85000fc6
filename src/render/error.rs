//! Why a commit could not be rendered.

use std::sync::Arc;

use super::finish::ObjectError;
use super::helm::HelmError;
use super::kustomize::KustomizeError;
use super::materialise::MaterialiseError;
use super::process::ProcessError;
use super::yaml::YamlError;
use crate::build::order::Cycle;
use crate::model::images::ImagesError;
use crate::model::{Failure, ObjectKey, Origin, Stage};
use crate::source::SourceError;
use crate::source::context::ContextError;

/// Why a commit could not be rendered. No variant holds a value that may be secret.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// git could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A file is not what it should be.
    #[error("{file}:{}: {source}", .source.at)]
    Yaml {
        /// The file.
        file: Arc<str>,
        /// What is wrong.
        source: YamlError,
    },
    /// An object is refused.
    #[error(transparent)]
    Object(#[from] Box<ObjectError>),
    /// `plumb.yaml` can be read, but not used.
    #[error("{file}: {source}")]
    Images {
        /// The file.
        file: &'static str,
        /// What is wrong.
        source: ImagesError,
    },
    /// An image's sources.
    #[error("the image {image:?}: {source}")]
    Image {
        /// Its name.
        image: String,
        /// What is wrong.
        source: Box<ContextError>,
    },
    /// Images that are based on each other.
    #[error("{file}: {source}")]
    Circle {
        /// The file.
        file: &'static str,
        /// The images.
        source: Cycle,
    },
    /// `spec.path` leaves the repository.
    #[error("the environment's path {0:?} is not a directory inside the repository")]
    BadPath(String),
    /// A path that the definition names is not in the commit.
    #[error("{path:?}, which the environment's {field} names, is not in this commit")]
    Missing {
        /// The field of the definition.
        field: &'static str,
        /// The path.
        path: String,
    },
    /// `spec.values` is set, but what is rendered is no chart.
    #[error("the environment names values files, but {0:?} is not a Helm chart: it has no Chart.yaml")]
    ValuesWithoutChart(String),
    /// A symbolic link or a submodule among the manifests.
    #[error("{file} is a {what}; manifests are read from files of this repository alone")]
    NotAFile {
        /// The entry.
        file: String,
        /// What it is.
        what: &'static str,
    },
    /// A directory with more in it than one environment should have.
    #[error("{path} has more than {limit} {what}")]
    TooMany {
        /// The directory.
        path: String,
        /// What there is too much of.
        what: &'static str,
        /// How much there may be.
        limit: usize,
    },
    /// Two objects with the same key.
    #[error("{key} is defined twice: at {first} and at {second}")]
    Duplicate {
        /// The object.
        key: ObjectKey,
        /// Where it is defined first.
        first: Origin,
        /// Where it is defined again.
        second: Origin,
    },
    /// A chart.
    #[error(transparent)]
    Helm(#[from] HelmError),
    /// A kustomization.
    #[error(transparent)]
    Kustomize(#[from] KustomizeError),
    /// Files could not be written out for a program.
    #[error(transparent)]
    Materialise(#[from] MaterialiseError),
    /// A program could not be run to its end.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// No object at all.
    #[error("{0:?} renders to no object at all")]
    Empty(String),
}

impl RenderError {
    pub(super) fn yaml(file: impl Into<Arc<str>>) -> impl FnOnce(YamlError) -> Self {
        let file = file.into();
        move |source| Self::Yaml { file, source }
    }

    pub(super) fn image(image: &str) -> impl FnOnce(ContextError) -> Self {
        move |source| Self::Image { image: image.to_owned(), source: Box::new(source) }
    }

    /// The error as a deployment's failure.
    pub fn failure(&self) -> Failure {
        let failed = |reason: String| Failure::new(Stage::Render, reason);
        let in_file = |file: &str| Origin { file: file.into(), line: 0, document: 0 };
        match self {
            Self::Object(error) => error.failure(),
            Self::Yaml { file, source } => yaml_failure(Stage::Render, file, source),
            Self::Images { file, source } => failed(source.to_string()).at(in_file(file)),
            Self::Circle { file, source } => {
                failed(source.to_string()).at(in_file(file)).hint("let one of them go another way")
            }
            Self::Image { source, .. } => match (&**source, source.file()) {
                (ContextError::Source(error), _) => source_failure(Stage::Render, error),
                (_, Some(file)) => failed(self.to_string()).at(in_file(file)),
                (_, None) => failed(self.to_string()),
            },
            Self::NotAFile { file, .. } => failed(self.to_string()).at(in_file(file)).hint("put the file itself there"),
            Self::Duplicate { key, first, second } => failed(format!("the object is defined twice, first at {first}"))
                .at(second.clone())
                .on(key.clone())
                .hint("remove one of the two"),
            Self::Source(error) => source_failure(Stage::Render, error),
            Self::BadPath(_) => {
                failed(self.to_string()).hint("give a path relative to the repository's root, without '..'")
            }
            Self::Missing { field, .. } => {
                failed(self.to_string()).hint(format!("add it to the branch, or correct {field}"))
            }
            Self::ValuesWithoutChart(_) => failed(self.to_string()).hint("remove spec.values, or correct spec.path"),
            Self::TooMany { .. } => failed(self.to_string()).hint("point spec.path at a smaller directory"),
            Self::Helm(error) => error.failure(),
            Self::Kustomize(error) => error.failure(),
            Self::Materialise(MaterialiseError::Source(error)) => source_failure(Stage::Render, error),
            Self::Materialise(error) => {
                let failure = failed(chain(error));
                match error.file() {
                    Some(file) => failure.at(in_file(file)),
                    None => failure.transient(),
                }
            }
            Self::Process(error) => {
                let failure = failed(chain(error));
                // Too much output is the commit's fault; a missing program or a busy machine is not.
                if matches!(error, ProcessError::OutputLimit { .. }) { failure } else { failure.transient() }
            }
            Self::Empty(_) => failed(self.to_string())
                .hint("nothing is pruned; if no object is really what you want, set spec.allow.empty"),
        }
    }
}

/// The failure of a file that cannot be read.
pub(super) fn yaml_failure(stage: Stage, file: &Arc<str>, error: &YamlError) -> Failure {
    let origin = Origin { file: file.clone(), line: error.at.line, document: 0 };
    Failure::new(stage, format!("column {}: {}", error.at.column, error.problem)).at(origin)
}

/// The failure of git itself.
pub(crate) fn source_failure(stage: Stage, error: &SourceError) -> Failure {
    let failure = Failure::new(stage, chain(error));
    if error.may_pass() { failure.transient() } else { failure }
}

/// An error and its sources in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Store, Trust};

    #[test]
    fn a_repository_that_is_made_anew_is_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("repository");
        git2::Repository::init_bare(&place).unwrap();
        let store = Store::open(&place, &Trust::default()).unwrap();
        let commit = "3f2a91c000000000000000000000000000000000".parse().unwrap();
        let early = source_failure(Stage::Source, &store.at(commit).unwrap_err());
        assert!(early.transient && early.reason.contains("is not in the repository"), "{early:?}");
        std::fs::remove_dir_all(&place).unwrap();
        let away = source_failure(Stage::Source, &store.at(commit).unwrap_err());
        assert!(away.transient && away.reason.contains("cannot open the repository"), "{away:?}");
        assert!(away.reason.contains(": failed to"), "the cause is told: {away:?}");
        let missing = source_failure(Stage::Source, &Store::open(&place, &Trust::default()).unwrap_err());
        assert!(missing.transient, "{missing:?}");
    }
}
