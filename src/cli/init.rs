//! `plumb init`: a first definition, or the custom resource definition.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use kube::CustomResourceExt as _;

use super::{Exit, print};
use crate::model::Environment;
use crate::render::yaml;

/// Write a first environments/<name>/environment.yaml, or print the custom resource definition
///
/// The definition is written below the current directory; commit it on the configuration branch. Nothing is ever overwritten.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The environment's name
    #[arg(default_value = "dev")]
    name: String,
    /// The branch that is deployed [default: the name]
    #[arg(long)]
    branch: Option<String>,
    /// The namespace it is deployed to [default: the name]
    #[arg(long)]
    namespace: Option<String>,
    /// The directory with the chart, kustomization or manifests
    #[arg(long, default_value = "manifests")]
    path: String,
    /// Print the custom resource definition environments.plumb.dev instead
    #[arg(long)]
    crd: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    if args.crd {
        return print(&crd()?);
    }
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if args.name.is_empty()
        || args.name.len() > 63
        || !args.name.chars().all(valid)
        || args.name.starts_with('-')
        || args.name.ends_with('-')
    {
        bail!(
            "{:?} is no environment's name: at most 63 lower-case letters, digits and dashes, not at the ends",
            args.name
        );
    }
    let directory = PathBuf::from("environments").join(&args.name);
    let file = directory.join("environment.yaml");
    fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    let written = fs::OpenOptions::new().write(true).create_new(true).open(&file);
    let mut written = match written {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{} exists; it is left as it is", file.display())
        }
        other => other.with_context(|| format!("write {}", file.display()))?,
    };
    std::io::Write::write_all(&mut written, definition(args).as_bytes())?;
    let branch = args.branch.as_ref().unwrap_or(&args.name);
    print(&format!(
        "wrote {}\n\nNext:\n  plumb init --crd | kubectl apply --server-side -f -\n  git add {0} && git commit -m 'Define {}' && git push\n  git push origin HEAD:{branch}\n  plumb run\n",
        file.display(),
        args.name
    ))
}

/// The custom resource definition as YAML; `deploy/crd.yaml` holds it.
fn crd() -> anyhow::Result<String> {
    Ok(yaml::write(&Environment::crd())?)
}

fn definition(args: &Args) -> String {
    let branch = args.branch.as_ref().unwrap_or(&args.name);
    let namespace = args.namespace.as_ref().unwrap_or(&args.name);
    format!(
        "apiVersion: plumb.dev/v1alpha1
kind: Environment
metadata:
  name: {}
spec:
  branch: {branch}        # the head of this branch is deployed
  namespace: {namespace}  # made if it is absent
  path: {}                # a Helm chart, a kustomization, or a directory of YAML
  # values: [environments/{0}/values.yaml]   # Helm values, read from the branch
  # `kubectl explain environment.spec` describes every field.
",
        args.name, args.path
    )
}
