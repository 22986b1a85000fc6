//! Which environments are removed, what is doubtful about it, and what is done next with one: decided without any I/O.
//!
//! An environment is removed when the configuration branch could be read and has no definition of it. One that is not valid, or a branch that can't be read,
//! removes nothing. Whatever else makes a removal less than certain is a doubt, and a doubt is a question: nothing is deleted before somebody answers it.

use crate::model::environment::DeletionPolicy;
use crate::model::marks::{self, Claim, Instance};
use crate::model::{CommitId, Environment};

/// Whether the Environment bears this installation's name, as its holder or as the last that was. It may still be another plumb's: the same name may be in
/// use twice, for another repository or another configuration branch; see [`is_provable`].
pub(super) fn was_ours(environment: &Environment, me: &Instance) -> bool {
    let held = matches!(marks::claim(environment, me), Claim::Ours | Claim::OtherRun);
    held || marks::released_by(environment, me)
}

/// Where an environment was last defined, as git knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// At a commit that the configuration branch contains: a later one took the definition out.
    Contained,
    /// At this commit, which the configuration branch does not contain.
    Elsewhere(CommitId),
    /// Nobody knows, or the definition can't be read there any more.
    Unknown,
}

/// Whether it is proved that the environment was this plumb's to keep: `this_run` has kept it, git's history has its definition, or an earlier run has begun to
/// remove it (`told`).
pub(super) fn is_provable(this_run: bool, last: Last, told: bool) -> bool {
    this_run || told || last == Last::Contained
}

/// What is known beside the missing definition.
#[derive(Debug, Clone)]
pub(super) struct Evidence {
    pub(super) last: Last,
    /// No environment is defined any more.
    pub(super) nothing_defined: bool,
    /// Environments whose first definition is not valid: what they ask for is not known.
    pub(super) invalid: Vec<String>,
    /// The last definition said so.
    pub(super) suspended: bool,
}

impl Evidence {
    /// Why a person is asked before anything is deleted, a sentence each.
    pub(super) fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        match self.last {
            Last::Contained => {}
            Last::Elsewhere(commit) => doubts.push(format!(
                "the configuration branch does not contain {}, where the environment was last defined: it was moved by force, or is another branch or repository",
                commit.short()
            )),
            Last::Unknown => doubts.push("it can't be seen in git where the environment was last defined".to_owned()),
        }
        if self.nothing_defined {
            doubts.push("the configuration branch defines no environment at all any more".to_owned());
        }
        if !self.invalid.is_empty() {
            let names = self.invalid.join(", ");
            doubts.push(format!("the definition of {names} is not valid, and what it asks for is not known"));
        }
        if self.suspended {
            doubts.push("the environment was suspended".to_owned());
        }
        doubts
    }
}

/// How a removed environment stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// Of its last definition.
    pub(super) policy: DeletionPolicy,
    /// Whose its Environment is; `None`: there is none.
    pub(super) claim: Option<Claim>,
    /// This run has had the claim in the course of this removal.
    pub(super) had: bool,
    /// Nobody's, and this installation was the last to have it.
    pub(super) released: bool,
    /// Its status says that it is removed.
    pub(super) told: bool,
    /// How many objects of it stand.
    pub(super) left: usize,
    /// Nobody has answered what is doubtful about it.
    pub(super) doubtful: bool,
}

/// What is done next with a removed environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Nothing, ever: it is no more, or another plumb's.
    End,
    /// Claim it.
    Claim,
    /// Say in its status that it is removed.
    Tell,
    /// Give the claim up: its objects are orphans.
    Release,
    /// Delete its objects, as far as that may be, and tell it.
    Delete,
    /// Delete the Environment, which has no objects any more.
    Forget,
    /// Wait for a change.
    Rest,
}

/// Decides.
pub(super) fn next(seen: &Seen) -> Act {
    let ours = match &seen.claim {
        None | Some(Claim::Theirs(_)) => return Act::End,
        Some(Claim::Free) if !seen.released => return Act::End,
        Some(Claim::Ours) => true,
        Some(Claim::Free | Claim::OtherRun) => false,
    };
    let told_orphan = seen.policy == DeletionPolicy::Orphan && seen.told && seen.released;
    match seen.policy {
        _ if seen.left == 0 && (ours || told_orphan) && !seen.doubtful => Act::Forget,
        _ if told_orphan => Act::Rest,
        // Another run took it over: it must not be fought.
        _ if seen.had && seen.claim == Some(Claim::OtherRun) => Act::Rest,
        _ if !ours => Act::Claim,
        DeletionPolicy::Delete if seen.left > 0 => Act::Delete,
        _ if !seen.told => Act::Tell,
        DeletionPolicy::Orphan => Act::Release,
        // Its history is not thrown away on doubt either.
        DeletionPolicy::Delete => Act::Rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(policy: DeletionPolicy) -> Seen {
        Seen { policy, claim: Some(Claim::Ours), had: false, released: false, told: false, left: 2, doubtful: false }
    }

    #[test]
    fn an_orphan_is_told_released_and_forgotten_when_its_last_object_went_elsewhere() {
        let mut seen = seen(DeletionPolicy::Orphan);
        assert_eq!(next(&seen), Act::Tell);
        seen.told = true;
        assert_eq!(next(&seen), Act::Release);
        (seen.claim, seen.released) = (Some(Claim::Free), true);
        assert_eq!(next(&seen), Act::Rest);
        seen.left = 0;
        assert_eq!(next(&seen), Act::Forget);
        seen.claim = None;
        assert_eq!(next(&seen), Act::End);
    }

    #[test]
    fn what_is_to_be_deleted_stays_claimed_until_the_end() {
        let mut seen = seen(DeletionPolicy::Delete);
        seen.claim = Some(Claim::OtherRun);
        assert_eq!(next(&seen), Act::Claim);
        seen.claim = Some(Claim::Ours);
        assert_eq!(next(&seen), Act::Delete);
        seen.told = true;
        // Stopped in the middle, on a laptop.
        (seen.claim, seen.released) = (Some(Claim::Free), true);
        assert_eq!(next(&seen), Act::Claim);
        (seen.claim, seen.left) = (Some(Claim::Ours), 0);
        assert_eq!(next(&seen), Act::Forget);
        seen.doubtful = true;
        assert_eq!(next(&seen), Act::Rest);
        seen.told = false;
        assert_eq!(next(&seen), Act::Tell);
    }

    #[test]
    fn what_another_run_took_over_is_not_taken_back() {
        for policy in [DeletionPolicy::Orphan, DeletionPolicy::Delete] {
            for left in [0, 2] {
                let lost = Seen { claim: Some(Claim::OtherRun), had: true, left, ..seen(policy) };
                assert_eq!(next(&lost), Act::Rest);
                assert_eq!(next(&Seen { had: false, ..lost.clone() }), Act::Claim, "a restart goes on");
                assert_eq!(
                    next(&Seen { claim: Some(Claim::Free), released: true, ..lost }),
                    Act::Claim,
                    "it was given up"
                );
            }
        }
    }

    #[test]
    fn whatever_the_policy_nothing_is_done_to_an_environment_of_others() {
        for policy in [DeletionPolicy::Orphan, DeletionPolicy::Delete] {
            for claim in [None, Some(Claim::Theirs("x".to_owned())), Some(Claim::Free)] {
                for (told, left) in [(false, 0), (true, 0), (false, 2), (true, 2)] {
                    for had in [false, true] {
                        let seen = Seen { claim: claim.clone(), had, told, left, ..seen(policy) };
                        assert_eq!(next(&seen), Act::End, "{seen:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn objects_go_only_by_the_policy_and_the_environment_only_without_objects() {
        let claims =
            [None, Some(Claim::Free), Some(Claim::Ours), Some(Claim::OtherRun), Some(Claim::Theirs("x".into()))];
        for policy in [DeletionPolicy::Orphan, DeletionPolicy::Delete] {
            for (claim, bits) in claims.iter().flat_map(|claim| (0..32).map(move |bits| (claim.clone(), bits))) {
                let (released, told, doubtful) = (bits & 1 > 0, bits & 2 > 0, bits & 4 > 0);
                let (had, left) = (bits & 8 > 0, bits >> 4);
                let seen = Seen { policy, claim, had, released, told, left, doubtful };
                match next(&seen) {
                    Act::Delete => assert!(policy == DeletionPolicy::Delete && seen.claim == Some(Claim::Ours)),
                    Act::Forget => {
                        assert!(left == 0 && !doubtful && (released || seen.claim == Some(Claim::Ours)));
                    }
                    Act::Release => assert_eq!((policy, &seen.claim), (DeletionPolicy::Orphan, &Some(Claim::Ours))),
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn a_doubt_is_a_sentence() {
        let certain = Evidence { last: Last::Contained, nothing_defined: false, invalid: Vec::new(), suspended: false };
        assert!(certain.doubts().is_empty());
        let commit = CommitId::new([0xab; 20]);
        let elsewhere = Evidence { last: Last::Elsewhere(commit), nothing_defined: true, ..certain.clone() };
        let text = elsewhere.doubts().join("; ");
        assert!(text.contains("does not contain abababa") && text.contains("no environment at all"), "{text}");
        let invalid = vec!["qa".to_owned(), "test".to_owned()];
        let unknown = Evidence { last: Last::Unknown, invalid, suspended: true, ..certain };
        let text = unknown.doubts().join("; ");
        assert!(text.contains("can't be seen") && text.contains("qa, test") && text.contains("suspended"), "{text}");
    }

    #[test]
    fn an_environment_is_ours_by_its_claim_or_by_who_gave_it_up() {
        use crate::model::environment::{INSTANCE, RELEASED_BY};
        let me = Instance { name: "test".to_owned(), run: "2".to_owned() };
        let spec = serde_json::json!({"branch": "dev", "namespace": "n", "path": "."});
        let with = |annotations: &[(&str, &str)]| {
            let mut environment = Environment::new("dev", serde_json::from_value(spec.clone()).unwrap());
            let annotations = annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            environment.metadata.annotations = Some(annotations.collect());
            was_ours(&environment, &me)
        };
        assert!(with(&[(INSTANCE, "test#2")]) && with(&[(INSTANCE, "test#1")]) && with(&[(RELEASED_BY, "test")]));
        assert!(!with(&[]) && !with(&[(RELEASED_BY, "other")]) && !with(&[(INSTANCE, "other#1")]));
        assert!(!with(&[(INSTANCE, "other#1"), (RELEASED_BY, "test")]), "somebody has it since");
    }
}
