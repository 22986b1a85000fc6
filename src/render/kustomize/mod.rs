//! A kustomization, through `kubectl kustomize` or `kustomize build`, which see exactly the files of its [`closure`].
//!
//! Plugins that start programs stay off, as they are by default. A wrapper around the kustomization asks for origin annotations, so that
//! every object keeps the file it came from; they are taken out again.

mod closure;
mod error;
mod references;
mod spelling;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

pub(super) use closure::FILES;
pub use error::KustomizeError;

use super::Renderer;
use super::collect::Collector;
use super::error::RenderError;
use super::finish::Draft;
use super::materialise::Workshop;
use super::process;
use super::request::{self, Request};
use super::yaml::{self, Budget, Notation};
use crate::model::path::normal;
use crate::model::secret::Redactor;
use crate::model::{EnvironmentSpec, Origin, Reads};
use crate::source::Snapshot;
use closure::Closure;

/// The annotation with which kustomize says where an object came from.
const ORIGIN: &str = "config.kubernetes.io/origin";

/// The renderer of kustomizations.
pub struct Kustomization;

impl Renderer for Kustomization {
    fn render(&self, request: &Request<'_>, out: &mut Collector<'_>) -> Result<Reads, RenderError> {
        let path = normal(&request.spec.path);
        let program = request.tools.kustomize.as_ref();
        let program = program.ok_or_else(|| KustomizeError::NoProgram(request.spec.path.clone()))?;
        let closure = Closure::of(request.snapshot, &path)?;
        let mut workshop = Workshop::new()?;
        for (file, kustomization) in &closure.kustomizations {
            // What is there is not written again below.
            workshop.write(&workshop.tree().join(file), quoted(kustomization).as_bytes())?;
        }
        for (file, entry) in &closure.files {
            workshop.write_file(request.snapshot, file, entry)?;
        }
        let wrapper = workshop.root().join("wrapper");
        workshop.write(&wrapper.join("kustomization.yaml"), wrapping(&path).as_bytes())?;

        let (program, verb) = match program {
            request::Kustomize::Kubectl(program) => (program, "kustomize"),
            request::Kustomize::Kustomize(program) => (program, "build"),
        };
        let mut command = process::command(program, workshop.root(), &workshop.home());
        command.args([verb, "wrapper"]);
        let ended = process::run(command, request.tools, request.cancel)?;
        let main = closure.main(&path);
        if !ended.success {
            let redactor = redactor(request.snapshot, &closure)?;
            let message = hide(&ended.stderr, workshop.root(), &redactor);
            return Err(KustomizeError::Failed { file: main, message }.into());
        }
        let drafts = drafts(&ended.stdout, &main, &mut out.budget)?;
        out.add(main.into(), None, drafts)?;
        Ok(closure.reads())
    }

    fn reads(&self, snapshot: &Snapshot, spec: &EnvironmentSpec) -> Result<Reads, RenderError> {
        Ok(Closure::of(snapshot, &normal(&spec.path))?.reads())
    }
}

/// As JSON, which quotes all text; and what YAML has an opinion of even in quotes is escaped.
fn quoted(kustomization: &Value) -> String {
    let mut text = String::new();
    for c in kustomization.to_string().chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(text, "\\u{:04x}", u32::from(c)); // A String takes everything.
            }
            c => text.push(c),
        }
    }
    text
}

/// A kustomization that adds origins to the one at `path`.
fn wrapping(path: &str) -> String {
    let resource = Value::String(format!("../tree/{path}"));
    format!("resources: [{resource}]\nbuildMetadata: [originAnnotations]\n")
}

/// The program's words without the private directory and without secret values.
fn hide(stderr: &str, root: &Path, redactor: &Redactor) -> String {
    let text = redactor.redact(stderr);
    let root = root.display().to_string();
    let text = text.replace(&format!("{root}/tree/"), "").replace("../tree/", "").replace(&root, "");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = text.strip_prefix("error: ").or_else(|| text.strip_prefix("Error: ")).unwrap_or(&text);
    const LONGEST: usize = 2000;
    text.chars().take(LONGEST).collect()
}

/// What must not be shown: the lines of the files that secret generators read, and the data of Secrets.
fn redactor(snapshot: &Snapshot, closure: &Closure) -> Result<Redactor, RenderError> {
    let mut values = Vec::new();
    for (file, entry) in &closure.files {
        let bytes = snapshot.blob(file, entry)?;
        let documents = yaml::read(&bytes, Notation::Yaml, &mut Budget::default()).unwrap_or_default();
        if documents.iter().all(|document| document.value.get("kind").is_none() && !document.value.is_object()) {
            let text = String::from_utf8_lossy(&bytes);
            let lines = text.lines().flat_map(|line| [Some(line), line.split_once('=').map(|(_, value)| value)]);
            values.extend(lines.flatten().map(str::trim).filter(|line| line.len() >= 8).map(str::to_owned));
        }
        for document in documents {
            literals(&document.value, &mut values);
            if document.value.get("kind").and_then(Value::as_str) == Some("Secret") {
                let maps =
                    ["data", "stringData"].into_iter().filter_map(|field| document.value.get(field)?.as_object());
                values.extend(maps.flat_map(|map| map.values()).filter_map(|value| value.as_str().map(str::to_owned)));
            }
        }
    }
    Ok(Redactor::new(values))
}

/// The literals of secret generators in a kustomization, or in a configuration of its own.
fn literals(document: &Value, found: &mut Vec<String>) {
    let list = |field: &str| document.get(field).and_then(Value::as_array).into_iter().flatten();
    let is_generator = document.get("kind").and_then(Value::as_str) == Some("SecretGenerator");
    let generators = list("secretGenerator").chain(is_generator.then_some(document));
    let literals = generators.filter_map(|generator| generator.get("literals")?.as_array()).flatten();
    found.extend(literals.filter_map(|literal| Some(literal.as_str()?.split_once('=')?.1.to_owned())));
    for item in list("items") {
        self::literals(item, found);
    }
    for text in list("generators").filter_map(Value::as_str).filter(|text| text.contains('\n')) {
        for inline in yaml::read(text.as_bytes(), Notation::Yaml, &mut Budget::default()).unwrap_or_default() {
            self::literals(&inline.value, found);
        }
    }
}

fn drafts(stdout: &[u8], main: &str, budget: &mut Budget) -> Result<Vec<Draft>, RenderError> {
    let output = |source| KustomizeError::Output { file: main.to_owned(), source };
    let documents = yaml::read(stdout, Notation::Yaml, budget).map_err(output)?;
    let draft = |mut document: yaml::Document| {
        let file = take_origin(&mut document.value).unwrap_or_else(|| main.into());
        Draft { origin: Origin { file, line: 0, document: 0 }, value: document.value }
    };
    Ok(documents.into_iter().map(draft).collect())
}

/// Takes the origin annotation out, and gives the file it names: the object's own, or the kustomization that generates it.
fn take_origin(object: &mut Value) -> Option<Arc<str>> {
    let metadata = object.get_mut("metadata")?.as_object_mut()?;
    let annotations = metadata.get_mut("annotations")?.as_object_mut()?;
    let origin = annotations.remove(ORIGIN);
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    let origin = origin?;
    let field = |name: &str| {
        let line = origin.as_str()?.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))?;
        Some(line.trim().trim_start_matches("../tree/").into())
    };
    field("path").or_else(|| field("configuredIn"))
}
