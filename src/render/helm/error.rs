//! Why a chart could not be rendered, and which template is at fault.

use std::sync::Arc;

use crate::model::path::join;
use crate::model::{Failure, Origin, Stage};
use crate::render::yaml::YamlError;

/// Why a chart could not be rendered.
#[derive(Debug, thiserror::Error)]
pub enum HelmError {
    /// There is no helm.
    #[error("{0:?} is a Helm chart, and there is no helm program")]
    NoProgram(String),
    /// Helm refused the chart, its templates or its values.
    #[error("helm: {message}")]
    Failed {
        /// Helm's words, with secret values masked.
        message: String,
        /// The template that it names.
        origin: Option<Origin>,
    },
    /// A template yields other output each time.
    #[error("{template} renders differently each time")]
    NotTheSame {
        /// The template.
        template: Arc<str>,
    },
    /// The output of a template is not the YAML it should be.
    #[error("the output of {template}: {source}")]
    Output {
        /// The template.
        template: Arc<str>,
        /// What is wrong; the place is one in the chart's whole output.
        source: YamlError,
    },
    /// A dependency is not in the repository.
    #[error("{file}: the dependency {name:?} is not in charts/, and plumb fetches nothing")]
    Dependency {
        /// The chart's `Chart.yaml`.
        file: String,
        /// The dependency.
        name: String,
    },
    /// A schema refers to another machine.
    #[error("{file}: the schema refers to {reference:?}, and plumb fetches nothing")]
    RemoteSchema {
        /// The schema.
        file: String,
        /// The reference.
        reference: String,
    },
    /// A symbolic link where Helm reads a chart.
    #[error("{0} is a symbolic link, which Helm would follow")]
    Link(String),
    /// A packed chart that cannot be read whole.
    #[error("{file} cannot be unpacked: {source}")]
    Packed {
        /// The packed chart.
        file: String,
        /// Why not.
        source: std::io::Error,
    },
    /// Charts inside each other.
    #[error("{file}: there are more than {limit} charts inside each other")]
    TooDeep {
        /// The chart.
        file: String,
        /// How many there may be.
        limit: usize,
    },
    /// The values file is not a mapping.
    #[error("{0}: a values file is a mapping")]
    Values(Arc<str>),
}

impl HelmError {
    pub(in crate::render) fn failure(&self) -> Failure {
        let failed = Failure::new(Stage::Render, self.to_string());
        let at = |file: &str| Origin { file: file.into(), line: 0, document: 0 };
        match self {
            Self::NoProgram(_) => failed.hint("install helm 4 on the PATH of plumb"),
            Self::Failed { origin: Some(origin), .. } => failed.at(origin.clone()),
            Self::Failed { .. } => failed,
            Self::NotTheSame { template } => failed
                .at(at(template))
                .hint("give what is random or of the moment (passwords, certificates, now) a fixed value"),
            Self::Output { template, .. } => failed.at(at(template)),
            Self::Dependency { file, .. } => {
                failed.at(at(file)).hint("run 'helm dependency build' and commit what it puts into charts/")
            }
            Self::RemoteSchema { file, .. } => failed.at(at(file)).hint("put what it refers to into the schema itself"),
            Self::Link(file) => failed.at(at(file)).hint("put what it leads to in its place"),
            Self::Packed { file, .. } => failed.at(at(file)).hint("pack it anew with 'helm package'"),
            Self::TooDeep { file, .. } => failed.at(at(file)),
            Self::Values(file) => failed.at(at(file)),
        }
    }
}

/// Helm's complaint as one line for people: without its `Error:` and its advice to debug.
pub(super) fn tidy(stderr: &str) -> String {
    let lines = stderr.lines().map(str::trim).filter(|line| {
        !line.is_empty()
            && !line.starts_with("Use --debug")
            && !line.starts_with("level=")
            && !line.starts_with("time=")
    });
    let text = lines.collect::<Vec<_>>().join(" ");
    let text = text.strip_prefix("Error: ").unwrap_or(&text);
    const LONGEST: usize = 2000;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The template that Helm names first, `<chart>/templates/x.yaml:3:7`, as a file of the repository.
pub(super) fn template_in(message: &str, chart: &str, path: &str) -> Option<Origin> {
    let word_ends = |c: char| c.is_whitespace() || matches!(c, '"' | '(' | ')' | '<' | '>' | ',' | '\'');
    let prefix = format!("{chart}/");
    message.split(word_ends).find_map(|word| {
        let inside = word.strip_prefix(&prefix)?;
        let mut parts = inside.split(':');
        let file = parts.next().filter(|file| file.contains('.'))?;
        let line = parts.next().and_then(|line| line.parse().ok()).unwrap_or(0);
        Some(Origin { file: join(path, file).into(), line, document: 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helms_words_lead_to_the_template() {
        for (stderr, line, file) in [
            (
                "Error: web/templates/a.yaml:2:13\n  executing \"web/templates/a.yaml\" at <.Values.a.b>:\n    nil pointer",
                2,
                "a",
            ),
            (
                "Error: execution error at (web/templates/a.yaml:2:6): boo\n\nUse --debug flag to render out invalid YAML",
                2,
                "a",
            ),
            ("Error: parse error at (web/templates/a.yaml:7): missing value for if", 7, "a"),
            (
                "Error: YAML parse error on web/templates/a.yaml: error converting YAML to JSON: yaml: line 2: tab",
                0,
                "a",
            ),
            ("level=WARN msg=x\nError: template: web/templates/b.yaml:4:3: executing", 4, "b"),
        ] {
            let message = tidy(stderr);
            assert!(
                !message.contains("Error") && !message.contains("--debug") && !message.contains("WARN"),
                "{message}"
            );
            let origin = template_in(&message, "web", "charts/w").unwrap();
            assert_eq!((&*origin.file, origin.line), (&*format!("charts/w/templates/{file}.yaml"), line));
        }
        assert_eq!(template_in("failed to parse values.yaml", "web", "w"), None);
    }
}
