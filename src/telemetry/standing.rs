//! Whether plumb does its work by now, and if not, what is missing. Pure.

use std::collections::BTreeMap;

/// How the environments of this plumb stand.
#[derive(Debug, Default)]
pub struct Standing {
    /// By name; `None`: no definitions were read yet.
    environments: Option<BTreeMap<String, Held>>,
    /// Why the newest definitions can't be read.
    unread: Option<String>,
}

/// Who has an environment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Held {
    /// It is not known yet.
    #[default]
    Unknown,
    /// This plumb.
    Ours,
    /// Nobody: its first definition is not valid, for this reason.
    Invalid(String),
    /// Not this plumb, for this reason: another holds it, or the claim was refused.
    Not(String),
    /// Nobody knows, for this reason: the API server gave no answer, or one that passes.
    Unsure(String),
}

/// What readiness depends on beside the environments: troubles, each in words.
#[derive(Debug, Default)]
pub struct Around {
    /// plumb stops.
    pub stopping: bool,
    /// The repository is not read.
    pub source: Option<String>,
    /// The Environments of the cluster were listed.
    pub listed: bool,
    /// They can't be listed or followed at the moment.
    pub cluster: Option<String>,
}

/// Whether plumb is ready, and what there is to say about it, one line each.
#[derive(Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Everything that can be waited for is there.
    pub ready: bool,
    /// What is missing; if nothing is, which environments plumb does not write to, and why.
    pub lines: Vec<String>,
}

impl Standing {
    /// The definitions were read: these environments are to be kept. The reason is why one can't be.
    pub fn defined<'a>(&mut self, environments: impl IntoIterator<Item = (&'a str, Option<String>)>) {
        let mut known = self.environments.take().unwrap_or_default();
        let held = |(name, invalid): (&str, Option<String>)| {
            let held = match (known.remove(name).unwrap_or_default(), invalid) {
                (Held::Unknown | Held::Invalid(_), Some(reason)) => Held::Invalid(reason),
                (Held::Invalid(_), None) => Held::Unknown,
                // The last good definition stays in force.
                (held, _) => held,
            };
            (name.to_owned(), held)
        };
        self.environments = Some(environments.into_iter().map(held).collect());
    }

    /// The definitions can't be read, for this reason, or they can.
    pub fn unread(&mut self, trouble: Option<String>) {
        self.unread = trouble;
    }

    /// Who has this environment, if it is still one of ours.
    pub fn set(&mut self, environment: &str, held: Held) {
        if let Some(known) = self.environments.as_mut().and_then(|environments| environments.get_mut(environment)) {
            *known = held;
        }
    }

    /// An environment is no more.
    pub fn forget(&mut self, environment: &str) {
        if let Some(environments) = &mut self.environments {
            environments.remove(environment);
        }
    }

    /// The verdict.
    pub fn readiness(&self, around: &Around) -> Readiness {
        let mut missing = Vec::new();
        if around.stopping {
            missing.push("plumb is stopping".to_owned());
        }
        if let Some(trouble) = &around.source {
            missing.push(format!("the repository is not read: {trouble}"));
        }
        match &around.cluster {
            Some(trouble) => missing.push(format!("the Environments are not seen: {trouble}")),
            None if !around.listed => missing.push("the Environments are not listed yet".to_owned()),
            None => {}
        }
        let trouble = self.unread.as_ref().map(|trouble| format!(": {trouble}"));
        let Some(environments) = &self.environments else {
            missing.push(format!("the definitions are not read yet{}", trouble.unwrap_or_default()));
            return Readiness { ready: false, lines: missing };
        };
        // Environments stay as they are, but no push that defines one is followed.
        missing.extend(trouble.map(|trouble| format!("the definitions can't be read{trouble}")));
        missing.extend(environments.iter().filter_map(|(name, held)| match held {
            Held::Unknown => Some(format!("environment {name} is not claimed yet")),
            Held::Unsure(reason) => Some(format!("environment {name} is not claimed: {reason}")),
            Held::Ours | Held::Not(_) | Held::Invalid(_) => None,
        }));
        if !missing.is_empty() {
            return Readiness { ready: false, lines: missing };
        }
        let others = environments.iter().filter_map(|(name, held)| match held {
            Held::Not(reason) | Held::Invalid(reason) => {
                Some(format!("environment {name} is not written to: {reason}"))
            }
            Held::Ours | Held::Unknown | Held::Unsure(_) => None,
        });
        Readiness { ready: true, lines: others.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> Around {
        Around { listed: true, ..Around::default() }
    }

    fn missing(standing: &Standing, around: &Around) -> Vec<String> {
        let Readiness { ready, lines } = standing.readiness(around);
        assert!(!ready);
        lines
    }

    #[test]
    fn at_the_start_everything_is_missing_and_each_has_its_line() {
        let mut standing = Standing::default();
        let mut around = Around { source: Some("no such directory".to_owned()), ..Around::default() };
        assert_eq!(
            missing(&standing, &around),
            [
                "the repository is not read: no such directory",
                "the Environments are not listed yet",
                "the definitions are not read yet",
            ]
        );
        around = well();
        assert_eq!(missing(&standing, &around), ["the definitions are not read yet"]);
        standing.unread(Some("there is no branch main".to_owned()));
        assert_eq!(missing(&standing, &around), ["the definitions are not read yet: there is no branch main"]);
        standing.unread(None);
        standing.defined([("dev", None), ("prod", None)]);
        assert_eq!(
            missing(&standing, &around),
            ["environment dev is not claimed yet", "environment prod is not claimed yet"]
        );
        standing.set("dev", Held::Ours);
        assert_eq!(missing(&standing, &around), ["environment prod is not claimed yet"]);
        standing.set("prod", Held::Not("held by another plumb".to_owned()));
        let lines = vec!["environment prod is not written to: held by another plumb".to_owned()];
        assert_eq!(standing.readiness(&around), Readiness { ready: true, lines });
    }

    #[test]
    fn what_goes_away_later_is_missing_again() {
        let mut standing = Standing::default();
        standing.defined([("dev", None)]);
        standing.set("dev", Held::Ours);
        assert!(standing.readiness(&well()).ready);
        let away = Around { cluster: Some("connection refused".to_owned()), ..well() };
        assert_eq!(missing(&standing, &away), ["the Environments are not seen: connection refused"]);
        let unread = Around { source: Some("it hangs".to_owned()), ..well() };
        assert_eq!(missing(&standing, &unread), ["the repository is not read: it hangs"]);
        standing.set("dev", Held::Unsure("no answer in time".to_owned()));
        assert_eq!(missing(&standing, &well()), ["environment dev is not claimed: no answer in time"]);
        standing.set("dev", Held::Ours);
        standing.unread(Some("there is no branch main".to_owned()));
        assert_eq!(missing(&standing, &well()), ["the definitions can't be read: there is no branch main"]);
        standing.unread(None);
        assert!(standing.readiness(&well()).ready);
        let stopping = Around { stopping: true, ..well() };
        assert_eq!(missing(&standing, &stopping), ["plumb is stopping"]);
    }

    #[test]
    fn definitions_come_and_go() {
        let mut standing = Standing::default();
        standing.defined([]);
        assert!(standing.readiness(&well()).ready, "no environment is nothing to wait for");
        standing.defined([("dev", None), ("bad", Some("line 3: no branch".to_owned()))]);
        standing.set("dev", Held::Ours);
        let lines = vec!["environment bad is not written to: line 3: no branch".to_owned()];
        assert_eq!(standing.readiness(&well()), Readiness { ready: true, lines });
        // A definition that goes bad leaves the last good one in force; one that is repaired is to be claimed.
        standing.defined([("dev", Some("line 1".to_owned())), ("bad", None)]);
        assert_eq!(missing(&standing, &well()), ["environment bad is not claimed yet"]);
        standing.set("bad", Held::Not("held by another plumb".to_owned()));
        standing.defined([("dev", None), ("bad", None)]);
        assert!(standing.readiness(&well()).ready, "read anew, and nothing is new");
        standing.defined([("bad", None)]);
        standing.set("dev", Held::Unknown);
        assert!(standing.readiness(&well()).ready, "what left git is not waited for");
        standing.forget("bad");
        assert_eq!(standing.readiness(&well()), Readiness { ready: true, lines: Vec::new() });
    }
}
