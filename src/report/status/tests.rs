use super::*;

pub(in super::super) fn ended(commit: u8, outcome: Outcome) -> Deployment {
    let commit = CommitId::new([commit; 20]);
    let took = Duration::from_millis(41);
    Deployment {
        commit,
        outcome,
        objects: 12,
        applied: 2,
        unchanged: 10,
        pruned: 0,
        lacking: None,
        took,
        stages: vec![(Stage::Apply, took)],
    }
}

#[test]
fn what_of_the_target_was_not_written_is_kept_until_it_is() {
    let failed = |commit: u8, lacking: Option<usize>| {
        let key = |number: usize| ObjectKey::new("apps", "Deployment", "n", &format!("d{number}"));
        let lacking = lacking.map(|count| (0..count).map(key).collect());
        Deployment { lacking, ..ended(commit, Outcome::Failed(Failure::new(Stage::Apply, "refused"))) }
    };
    let target = |commit: u8| Target { commit: CommitId::new([commit; 20]), definition: None };
    let after = |last: &EnvironmentStatus, deployment: &Deployment, commit: u8| {
        next(last, deployment, Some(&target(commit)), None, Some(1), at(1))
    };
    let partly = after(&EnvironmentStatus::default(), &failed(1, Some(1)), 1);
    let expected = Some(vec!["Deployment.apps/n/d0".to_owned()]);
    assert_eq!(partly.not_applied, expected);
    // A head that is refused, and the target itself where its gates could not be passed, were not begun.
    assert_eq!(after(&partly, &failed(2, None), 1).not_applied, expected);
    assert_eq!(after(&partly, &failed(1, None), 1).not_applied, expected);
    assert_eq!(after(&partly, &failed(1, Some(0)), 1).not_applied, Some(Vec::new()), "a deletion failed");
    assert_eq!(after(&partly, &failed(1, Some(NAMED + 1)), 1).not_applied, None);
    assert_eq!(after(&partly, &ended(1, Outcome::Deployed), 1).not_applied, None);
    assert_eq!(after(&partly, &failed(3, None), 2).not_applied, None, "another target");
}

#[test]
fn under_which_definition_the_target_passed_is_kept_until_it_passes_under_another() {
    let after = |last: &EnvironmentStatus, commit: u8, definition: Option<&str>| {
        let target = Target { commit: CommitId::new([commit; 20]), definition: definition.map(str::to_owned) };
        next(last, &ended(9, Outcome::Deployed), Some(&target), None, Some(1), at(1))
    };
    let first = after(&EnvironmentStatus::default(), 1, Some("a"));
    assert_eq!(first.target_definition.as_deref(), Some("a"));
    assert_eq!(after(&first, 1, None).target_definition.as_deref(), Some("a"));
    assert_eq!(next(&first, &ended(9, Outcome::Deployed), None, None, Some(1), at(1)), first);
    assert_eq!(after(&first, 1, Some("b")).target_definition.as_deref(), Some("b"));
    assert_eq!(after(&first, 2, None).target_definition, None, "another target");
}

pub(in super::super) fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(second, 0).unwrap()
}

#[test]
fn ten_are_kept_newest_first_and_a_commit_ends_once() {
    let mut status = EnvironmentStatus::default();
    for commit in 0..15 {
        status = next(&status, &ended(commit, Outcome::Deployed), None, None, None, at(commit.into()));
    }
    status = next(&status, &ended(14, Outcome::Deployed), None, None, None, at(99));
    assert_eq!(status.history.len(), 10);
    assert_eq!(status.history[0].time, stamp(at(99)));
    assert!(status.history[1].commit.starts_with("0d0d"));
    assert_eq!(status.short_commit.as_deref(), Some("0e0e0e0"));
}

#[test]
fn what_stands_is_not_pushed_out_by_what_came_to_nothing_after_it() {
    let mut status = EnvironmentStatus::default();
    for commit in 0..2 {
        status = next(&status, &ended(commit, Outcome::Deployed), None, None, None, at(commit.into()));
    }
    for commit in 2..20 {
        let overtaken = Outcome::SupersededBy(CommitId::new([commit + 1; 20]));
        status = next(&status, &ended(commit, overtaken), None, None, None, at(commit.into()));
    }
    let kept: Vec<&str> = status.history.iter().map(|entry| &entry.commit[..2]).collect();
    assert_eq!(kept, ["13", "12", "11", "10", "0f", "0e", "0d", "0c", "0b", "01"]);
}

#[test]
fn being_overtaken_before_a_write_does_not_undo_what_was_deployed() {
    let deployed = next(&EnvironmentStatus::default(), &ended(1, Outcome::Deployed), None, None, None, at(1));
    let overtaken = Outcome::SupersededBy(CommitId::new([2; 20]));
    let nothing = Deployment { applied: 0, ..ended(1, overtaken.clone()) };
    let outcomes = |deployment| -> Vec<String> {
        let status = next(&deployed, deployment, None, None, None, at(2));
        status.history.into_iter().map(|entry| entry.outcome).collect()
    };
    assert_eq!(outcomes(&nothing), ["Deployed"]);
    assert_eq!(outcomes(&ended(1, overtaken)), ["SupersededBy"], "some of it was overwritten");
}

#[test]
fn what_was_written_or_found_in_order_keeps_its_entry_over_what_writes_nothing() {
    let slow = || Outcome::Failed(Failure::new(Stage::Health, "a pod is not ready"));
    let bad = || Outcome::Failed(Failure::new(Stage::Render, "bad indentation"));
    let overtaken = Outcome::SupersededBy(CommitId::new([9; 20]));
    for (former, then, kept) in [
        (slow(), Outcome::Suspended, true),
        (slow(), Outcome::Unchanged, true),
        (slow(), overtaken.clone(), true),
        (slow(), bad(), false),
        (Outcome::Unchanged, Outcome::Suspended, true),
        (Outcome::Unchanged, overtaken, true),
        (Outcome::Unchanged, Outcome::Deployed, false),
        (bad(), Outcome::Suspended, false),
        (bad(), Outcome::Unchanged, false),
        (Outcome::Suspended, Outcome::Unchanged, false),
    ] {
        let was = next(&EnvironmentStatus::default(), &ended(1, former), None, None, None, at(1));
        let mut again = ended(1, then.clone());
        again.applied = 0;
        let is = next(&was, &again, None, None, None, at(2));
        assert_eq!(is.history.len(), 1);
        assert_eq!(is.history == was.history, kept, "{:?}, then {then:?}", was.history[0].outcome);
    }
}

#[test]
fn what_was_deployed_stays_in_the_history_while_it_is_suspended() {
    let deployed = next(&EnvironmentStatus::default(), &ended(1, Outcome::Deployed), None, None, None, at(1));
    let suspended = next(&deployed, &ended(1, Outcome::Suspended), None, None, None, at(2));
    let outcomes = |status: &EnvironmentStatus| -> Vec<String> {
        status.history.iter().map(|entry| entry.outcome.clone()).collect()
    };
    assert_eq!(suspended.history, deployed.history, "a commit ends once");
    assert_eq!(suspended.conditions[0].reason, "Suspended");
    assert_eq!(outcomes(&next(&suspended, &ended(1, Outcome::Deployed), None, None, None, at(4))), ["Deployed"]);
    let bad = Outcome::Failed(Failure::new(Stage::Render, "bad indentation"));
    let other = next(&suspended, &ended(2, bad), None, None, None, at(5));
    for outcome in [Outcome::Suspended, Outcome::Unchanged] {
        let expected = [outcome.as_str(), "Failed", "Deployed"];
        let back = next(&other, &ended(1, outcome.clone()), None, None, None, at(6));
        assert_eq!(outcomes(&back), expected, "the head came back to it");
    }
}

#[test]
fn a_missing_branch_is_told_until_a_commit_ends_and_takes_nothing_away() {
    let good = next(&EnvironmentStatus::default(), &ended(1, Outcome::Deployed), None, None, None, at(1));
    let missing = branch_missing(&good, "dev", None, at(2));
    let synced = |status: &EnvironmentStatus| {
        let synced = status.conditions.iter().find(|condition| condition.type_ == "Synced").unwrap();
        (synced.status.clone(), synced.reason.clone())
    };
    assert_eq!(synced(&missing), ("Unknown".to_owned(), "BranchMissing".to_owned()));
    assert_eq!((&missing.history, &missing.short_commit), (&good.history, &good.short_commit));
    assert_eq!(branch_missing(&missing, "dev", None, at(3)), missing, "the same costs no request");
    let back = next(&missing, &ended(1, Outcome::Unchanged), None, None, None, at(4));
    assert_eq!(synced(&back), ("True".to_owned(), "Unchanged".to_owned()));
}

#[test]
fn a_commit_stands_by_the_status_until_another_end_is_told_or_the_definition_changes() {
    let (commit, last) = (CommitId::new([1; 20]), EnvironmentStatus::default());
    let after = |last: &EnvironmentStatus, deployment: &Deployment| next(last, deployment, None, None, Some(7), at(1));
    let deployed = after(&last, &ended(1, Outcome::Deployed));
    assert!(
        stands(&deployed, commit, Some(7)) && stands(&after(&last, &ended(1, Outcome::Unchanged)), commit, Some(7))
    );
    assert!(!stands(&deployed, CommitId::new([2; 20]), Some(7)) && !stands(&deployed, commit, Some(8)));
    for outcome in [Outcome::Suspended, Outcome::Failed(Failure::new(Stage::Render, "bad indentation"))] {
        let status = after(&deployed, &ended(2, outcome));
        assert_eq!(status.short_commit, Some(commit.short()), "it does stand");
        assert!(!stands(&status, commit, Some(7)), "{status:#?}");
    }
    assert!(!stands(&branch_missing(&deployed, "dev", Some(7), at(2)), commit, Some(7)));
}

#[test]
fn a_failure_keeps_the_commit_that_stands_and_the_time_of_the_change() {
    let good = next(
        &EnvironmentStatus::default(),
        &ended(1, Outcome::Deployed),
        Some(&Target { commit: CommitId::new([1; 20]), definition: None }),
        None,
        None,
        at(1),
    );
    let failure = Failure::new(Stage::Render, "bad indentation");
    let bad = next(&good, &ended(2, Outcome::Failed(failure.clone())), None, None, None, at(2));
    let worse = next(&bad, &ended(3, Outcome::Failed(failure)), None, None, None, at(3));
    assert_eq!(worse.short_commit.as_deref(), Some("0101010"));
    assert_eq!(worse.target, good.target);
    let ready = worse.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "RenderFailed"));
    assert_eq!(ready.last_transition_time, stamp(at(2)));
}
