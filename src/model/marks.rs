//! What the annotations of an Environment say: which plumb holds it, where it was defined, where it has members, which prune was approved.

use super::applyset::{self, Reach};
use super::environment::{CONFIRM_PRUNE, DEFINED_AT, INSTANCE, RELEASED_BY};
use super::{CommitId, Configuration, Environment};

/// Who writes: the installation, and this run of it. A restart of the same installation takes over at once; another installation is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The installation, such as `pod/plumb-system/plumb` or `ada@laptop:/srv/repo.git`.
    pub name: String,
    /// This run.
    pub run: String,
}

impl std::fmt::Display for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}#{}", self.name, self.run)
    }
}

/// Whose an Environment is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// This run's.
    Ours,
    /// Nobody's.
    Free,
    /// Another run's of the same installation: an earlier one's, unless this one has had it already.
    OtherRun,
    /// Another installation's: its name.
    Theirs(String),
}

/// Whether nobody holds this Environment and this installation was the last to.
pub fn released_by(environment: &Environment, me: &Instance) -> bool {
    claim(environment, me) == Claim::Free && annotation(environment, RELEASED_BY) == Some(&*me.name)
}

/// Where the Environment's spec was read.
pub fn defined_at(environment: &Environment) -> Option<Configuration> {
    annotation(environment, DEFINED_AT)?.parse().ok()
}

/// Whose this Environment is, seen from this run.
pub fn claim(environment: &Environment, me: &Instance) -> Claim {
    match annotation(environment, INSTANCE) {
        None | Some("") => Claim::Free,
        Some(holder) if *holder == me.to_string() => Claim::Ours,
        Some(holder) => match holder.rsplit_once('#') {
            Some((name, _)) if name == me.name => Claim::OtherRun,
            Some((name, _)) => Claim::Theirs(name.to_owned()),
            None => Claim::Theirs(holder.to_owned()),
        },
    }
}

/// An annotation of the Environment.
pub fn annotation<'a>(environment: &'a Environment, name: &str) -> Option<&'a str> {
    environment.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// Where the environment has members, as its annotations say.
pub fn reach(environment: &Environment) -> Reach {
    let text = |name| annotation(environment, name).unwrap_or_default();
    Reach::parse(text(applyset::GROUP_KINDS), text(applyset::NAMESPACES))
}

/// The commit whose deletions somebody approved.
pub fn confirmed_prune(environment: &Environment) -> Option<CommitId> {
    annotation(environment, CONFIRM_PRUNE)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_restart_takes_over_and_another_installation_does_not() {
        let spec = serde_json::from_value(json!({"branch": "dev", "namespace": "n", "path": "."})).unwrap();
        let mut environment = Environment::new("dev", spec);
        let me = Instance { name: "pod/plumb".to_owned(), run: "2".to_owned() };
        let mut held_by = |holder: &str| {
            environment.metadata.annotations = Some([(INSTANCE.to_owned(), holder.to_owned())].into());
            claim(&environment, &me)
        };
        assert_eq!(held_by("pod/plumb#2"), Claim::Ours);
        assert_eq!(held_by("pod/plumb#1"), Claim::OtherRun);
        assert_eq!(held_by(""), Claim::Free);
        assert_eq!(held_by("ada@laptop#1"), Claim::Theirs("ada@laptop".to_owned()));
        assert_eq!(held_by("somebody"), Claim::Theirs("somebody".to_owned()));
    }
}
