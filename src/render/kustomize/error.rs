//! Why a kustomization could not be built.

use crate::model::{Failure, Origin, Stage};
use crate::render::yaml::YamlError;

/// Why a kustomization could not be built.
#[derive(Debug, thiserror::Error)]
pub enum KustomizeError {
    /// There is neither kubectl nor kustomize.
    #[error("{0:?} is a kustomization, and there is neither a kubectl nor a kustomize program")]
    NoProgram(String),
    /// An entry that would be fetched.
    #[error("{file}: {field} names {entry:?}, which is not a path in this repository; plumb fetches nothing")]
    Remote {
        /// The kustomization.
        file: String,
        /// The field.
        field: String,
        /// The entry.
        entry: String,
    },
    /// An entry that is not in the commit.
    #[error("{file}: {field} names {entry:?}, which is not in this commit")]
    Missing {
        /// The kustomization.
        file: String,
        /// The field.
        field: String,
        /// The entry.
        entry: String,
    },
    /// A directory with configurations of generators or transformers: what they name is known only when it is built.
    #[error("{file}: {field} names the directory {entry:?}, and has to name files")]
    Directory {
        /// The kustomization.
        file: String,
        /// The field.
        field: String,
        /// The entry.
        entry: String,
    },
    /// A path that leaves the repository.
    #[error("{file}: {field} names {entry:?}, which leads out of the repository")]
    Outside {
        /// The kustomization.
        file: String,
        /// The field.
        field: String,
        /// The entry.
        entry: String,
    },
    /// A field that starts other programs.
    #[error("{file}: {field} would start another program, which plumb does not allow")]
    Forbidden {
        /// The kustomization.
        file: String,
        /// The field.
        field: String,
    },
    /// A kustomization that is to be read as a file, such as for a ConfigMap.
    #[error("{file}: {field} names {entry:?}, a kustomization; its text is no file for others")]
    Itself {
        /// The kustomization.
        file: String,
        /// The field.
        field: String,
        /// The entry.
        entry: String,
    },
    /// A key that is another one to kustomize, or may be.
    #[error("{file}: kustomize reads the key {key:?} as another, or not at all")]
    Spelling {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// The field that is meant, if there is one.
        meant: Option<&'static str>,
    },
    /// Text in a kustomization that should be YAML itself.
    #[error("{file}: a generator, transformer or validator in it: {source}")]
    Inline {
        /// The kustomization.
        file: String,
        /// What is wrong; the place is one in the text.
        source: YamlError,
    },
    /// A character that ends a line for some readers of YAML only.
    #[error("{0}: U+0085, U+2028 or U+2029 ends a line for kustomize, and for others it does not")]
    LineBreak(String),
    /// A directory without a kustomization, or with two.
    #[error("{directory} has {found} of kustomization.yaml, kustomization.yml and Kustomization; it must have one")]
    NotOne {
        /// The directory.
        directory: String,
        /// How many it has.
        found: usize,
    },
    /// A kustomization that is not a mapping, or more than one document.
    #[error("{0}: a kustomization is one mapping")]
    NotAMapping(String),
    /// Too many files.
    #[error("{file}: the kustomization reads more than {limit} files and directories")]
    TooMany {
        /// The kustomization that was read last.
        file: String,
        /// How many it may read.
        limit: usize,
    },
    /// The program refused it.
    #[error("kustomize: {message}")]
    Failed {
        /// The kustomization.
        file: String,
        /// The program's words, with secret values masked.
        message: String,
    },
    /// The output is not the YAML it should be.
    #[error("the output of {file}: {source}")]
    Output {
        /// The kustomization.
        file: String,
        /// What is wrong.
        source: YamlError,
    },
}

impl KustomizeError {
    pub(in crate::render) fn failure(&self) -> Failure {
        let failed = Failure::new(Stage::Render, self.to_string());
        let at = |failure: Failure, file: &str| failure.at(Origin { file: file.into(), line: 0, document: 0 });
        match self {
            Self::NoProgram(_) => failed.hint("install kubectl or kustomize on the PATH of plumb"),
            Self::Remote { file, .. } => at(failed, file).hint("copy it into the repository"),
            Self::Forbidden { file, .. } => {
                at(failed, file).hint("remove the field, or make the chart an environment's path")
            }
            Self::Itself { file, .. } => at(failed, file).hint("copy it to a file of another name"),
            Self::Directory { file, .. } => at(failed, file).hint("list the files in the directory one by one"),
            Self::Missing { file, .. } | Self::Outside { file, .. } => at(failed, file).hint("correct the entry"),
            Self::Spelling { file, meant: Some(meant), .. } => at(failed, file).hint(format!("write {meant:?}")),
            Self::Spelling { file, .. } => at(failed, file).hint("remove the key"),
            Self::LineBreak(file) => at(failed, file).hint("write it as an escape, in double quotes"),
            Self::NotAMapping(file)
            | Self::TooMany { file, .. }
            | Self::Inline { file, .. }
            | Self::Failed { file, .. }
            | Self::Output { file, .. } => at(failed, file),
            Self::NotOne { directory, .. } => at(failed, directory),
        }
    }
}
