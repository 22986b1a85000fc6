//! A Helm chart, through the `helm` program: `helm template` with everything fixed that could differ from one run to the next.
//!
//! The release has the environment's name and namespace, versions are those of the cluster, CRDs are part of the output, tests are not, and the
//! chart is always rendered as if it were installed. The chart is rendered twice: a template with random output would write at every
//! restart. One that may look at the clock is rendered in two different seconds. Install and upgrade hooks are ordinary objects, that are
//! replaced where Helm would make them anew.

mod chart;
mod clock;
mod error;
mod packed;
#[cfg(test)]
mod tests;
mod values;

use std::sync::Arc;

use serde_json::Value;

pub use error::HelmError;

use super::Renderer;
use super::collect::Collector;
use super::error::RenderError;
use super::finish::{Draft, Nulls};
use super::materialise::Workshop;
use super::process::{self, Ended, ProcessError};
use super::request::Request;
use super::yaml::{self, Budget, Notation};
use crate::model::path::{join, normal};
use crate::model::secret::Redactor;
use crate::model::{EnvironmentSpec, Origin, Reads};
use crate::source::Snapshot;
use chart::Chart;

/// The renderer of Helm charts.
pub struct Helm;

impl Renderer for Helm {
    fn render(&self, request: &Request<'_>, out: &mut Collector<'_>) -> Result<Reads, RenderError> {
        let path = normal(&request.spec.path);
        let program = request.tools.helm.as_deref().ok_or_else(|| HelmError::NoProgram(request.spec.path.clone()))?;
        let chart = Chart::read(request.snapshot, &path)?;
        let mut workshop = Workshop::new()?;
        for (file, bytes) in &chart.packed {
            workshop.write(&workshop.tree().join(file), bytes)?; // What is there is not written again below.
        }
        workshop.write_tree(request.snapshot, &path)?;

        let mut clock = clock::mentioned(request.snapshot, &path)?;
        let mut arguments = arguments(request, &path);
        let mut values = Vec::new();
        for file in &request.spec.values {
            let file = normal(file);
            let entry = request.snapshot.entry(&file)?;
            let missing = || RenderError::Missing { field: "spec.values", path: file.clone() };
            let entry = entry.ok_or_else(missing)?;
            workshop.write_file(request.snapshot, &file, &entry)?;
            let bytes = request.snapshot.blob(&file, &entry)?;
            clock |= clock::mentioned_in(&bytes); // `tpl` makes a template of a value.
            values.extend(read_values(&bytes, &file)?);
            arguments.push(format!("--values=./{file}"));
        }
        let redactor = values::redactor(values.iter().chain(&chart.values));

        let run = || {
            let mut command = process::command(program, &workshop.tree(), &workshop.home());
            command.args(&arguments);
            process::run(command, request.tools, request.cancel)
        };
        let both = if clock { one_after_the_other(&run) } else { at_once(&run) };
        let stdout = same(both, &chart, &path, &|text| hide(text, &workshop, &redactor))?;
        out.nulls(Nulls::LeaveOut);
        let drafts = drafts(&stdout, &chart, &path, &mut out.budget)?;
        out.add(path.as_str().into(), None, drafts)?;
        self.reads(request.snapshot, request.spec)
    }

    fn reads(&self, snapshot: &Snapshot, spec: &EnvironmentSpec) -> Result<Reads, RenderError> {
        let files = std::iter::once(&spec.path).chain(&spec.values).map(|path| normal(path));
        let read = |path: String| Ok((path.as_str().into(), snapshot.entry(&path)?.map(|entry| entry.id)));
        files.map(read).collect::<Result<_, RenderError>>().map(Reads)
    }
}

fn arguments(request: &Request<'_>, path: &str) -> Vec<String> {
    let mut arguments = vec![
        "template".to_owned(),
        request.environment.to_owned(),
        format!("./{path}"),
        format!("--namespace={}", request.spec.namespace),
        "--include-crds".to_owned(),
        "--skip-tests".to_owned(),
    ];
    if !request.kinds.server_version.is_empty() {
        arguments.push(format!("--kube-version={}", request.kinds.server_version));
    }
    arguments.extend(request.kinds.api_versions().into_iter().map(|version| format!("--api-versions={version}")));
    arguments
}

/// One values file, read strictly: Helm would take the last of two equal keys without a word.
fn read_values(bytes: &[u8], file: &str) -> Result<Option<Value>, RenderError> {
    let documents = yaml::read(bytes, Notation::Yaml, &mut Budget::default()).map_err(RenderError::yaml(file))?;
    let mut values = documents.into_iter().map(|document| document.value);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value @ Value::Object(_)), None) => Ok(Some(value)),
        _ => Err(HelmError::Values(file.into()).into()),
    }
}

/// Helm's words without the private directory and without secret values.
fn hide(text: &str, workshop: &Workshop, redactor: &Redactor) -> String {
    let tree = format!("{}/", workshop.tree().display());
    let root = workshop.root().display().to_string();
    redactor.redact(&text.replace(&tree, "").replace(&root, ""))
}

/// How two runs of the chart ended, if both were made.
type Both = (Result<Ended, ProcessError>, Option<Result<Ended, ProcessError>>);

fn at_once(run: &(dyn Fn() -> Result<Ended, ProcessError> + Sync)) -> Both {
    std::thread::scope(|scope| {
        let second = scope.spawn(run);
        (run(), second.join().ok())
    })
}

/// So that the time is another one in the second.
fn one_after_the_other(run: &dyn Fn() -> Result<Ended, ProcessError>) -> Both {
    let first = run();
    if !first.as_ref().is_ok_and(|first| first.success) {
        return (first, None);
    }
    std::thread::sleep(clock::APART);
    (first, Some(run()))
}

/// The output, if it is the same both times.
fn same(
    (first, second): Both,
    chart: &Chart,
    path: &str,
    hide: &dyn Fn(&str) -> String,
) -> Result<Vec<u8>, RenderError> {
    let first = first?;
    if !first.success {
        let message = error::tidy(&hide(&first.stderr));
        let origin = error::template_in(&message, &chart.name, path);
        return Err(HelmError::Failed { message, origin }.into());
    }
    // A second run that fails where the first did not is a difference, too.
    let second = second.transpose()?.map(|second| second.stdout).unwrap_or_default();
    if first.stdout != second {
        let template = different(&first.stdout, &second, chart, path);
        return Err(HelmError::NotTheSame { template }.into());
    }
    Ok(first.stdout)
}

/// The template of the first line that differs.
fn different(first: &[u8], second: &[u8], chart: &Chart, path: &str) -> Arc<str> {
    let (first, second) = (String::from_utf8_lossy(first), String::from_utf8_lossy(second));
    let line = first.lines().zip(second.lines()).take_while(|(a, b)| a == b).count();
    source_at(&sources(&first, chart, path), line).unwrap_or_else(|| path.into())
}

/// The lines of the output at which a template's output begins, from 0.
fn sources(output: &str, chart: &Chart, path: &str) -> Vec<(usize, Arc<str>)> {
    let mut sources = Vec::new();
    let mut after_marker = false;
    for (number, line) in output.lines().enumerate() {
        if let (true, Some(source)) = (after_marker, line.strip_prefix("# Source: ")) {
            let file = source.strip_prefix(&*chart.name).and_then(|file| file.strip_prefix('/')).unwrap_or(source);
            sources.push((number, join(path, file).into()));
        }
        after_marker = line == "---";
    }
    sources
}

fn source_at(sources: &[(usize, Arc<str>)], line: usize) -> Option<Arc<str>> {
    let next = sources.partition_point(|(start, _)| *start <= line);
    sources.get(next.checked_sub(1)?).map(|(_, source)| source.clone())
}

/// The documents of the output, each with the template it came from. The lines are those of the output, so no template has one.
fn drafts(output: &[u8], chart: &Chart, path: &str, budget: &mut Budget) -> Result<Vec<Draft>, RenderError> {
    let sources = sources(&String::from_utf8_lossy(output), chart, path);
    let template = |line: u32| {
        let line = usize::try_from(line).unwrap_or_default().saturating_sub(1);
        source_at(&sources, line).unwrap_or_else(|| path.into())
    };
    let documents = yaml::read(output, Notation::Yaml, budget)
        .map_err(|source| HelmError::Output { template: template(source.at.line), source })?;
    let draft = |document: yaml::Document| Draft {
        origin: Origin { file: template(document.line), line: 0, document: 0 },
        value: document.value,
    };
    Ok(documents.into_iter().map(draft).collect())
}
