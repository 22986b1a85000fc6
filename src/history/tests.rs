use super::*;
use crate::model::environment::EnvironmentStatus;

fn id(number: u8) -> CommitId {
    CommitId::new([number; 20])
}

fn entry(number: u8, outcome: &str) -> HistoryEntry {
    HistoryEntry {
        commit: id(number).to_string(),
        outcome: outcome.to_owned(),
        time: format!("2026-11-21T10:32:{number:02}Z"),
        stage: None,
        message: None,
        applied: 1,
        pruned: 0,
        took_ms: BTreeMap::new(),
    }
}

fn logged(number: u8, changes: bool) -> Logged {
    let commit = Commit {
        id: id(number),
        branch: "dev".to_owned(),
        author: "Ada".to_owned(),
        time: chrono::DateTime::default(),
        summary: format!("change {number}"),
    };
    Logged { commit, changes }
}

/// `commit outcome +with` for each line; commits are numbers, and a time stands for what was written down.
fn shown(entries: &[HistoryEntry], log: &[Logged]) -> Vec<String> {
    let number = |commit: &str| u8::from_str_radix(&commit[..2], 16).unwrap();
    let line = |line: &Line| {
        let with: String = line.with.iter().map(|commit| format!(" +{}", number(commit))).collect();
        let time = if line.time.is_some() { "" } else { "?" };
        format!("{} {}{time}{with}", number(&line.commit), line.outcome)
    };
    lines(entries, log, |_| None).iter().map(line).collect()
}

#[test]
fn what_git_knows_stands_between_what_was_written_down() {
    let entries = [entry(9, "Deployed"), entry(5, "Failed"), entry(2, "Deployed")];
    let changes = |number| !matches!(number, 11 | 7 | 3);
    let log: Vec<Logged> = (2..=12).rev().map(|number| logged(number, changes(number))).collect();
    assert_eq!(
        shown(&entries, &log),
        [
            "12 Pending? +10",
            "11 Unchanged?",
            "9 Deployed +8 +6",
            "7 Unchanged?",
            "5 Failed +4",
            "3 Unchanged?",
            "2 Deployed"
        ]
    );
    let lines = lines(&entries, &log, |of| {
        log.iter().find(|logged| logged.commit.id == of).map(|logged| logged.commit.clone())
    });
    assert_eq!(lines[2].subject.as_deref(), Some("change 9"));
    assert_eq!((lines[3].author.as_deref(), lines[3].applied), (Some("Ada"), 0));
}

#[test]
fn without_git_the_entries_stand_alone() {
    let mut superseded = entry(3, "SupersededBy");
    superseded.message = Some(id(4).to_string());
    let entries = [entry(4, "Deployed"), superseded];
    assert_eq!(shown(&entries, &[]), ["4 Deployed", "3 SupersededBy"]);
    let lines = lines(&entries, &[], |_| None);
    assert_eq!((lines[0].subject.clone(), lines[1].message.clone()), (None, None));
    assert_eq!(lines[1].superseded_by.as_deref(), Some(id(4).to_string().as_str()));
}

#[test]
fn a_branch_that_was_moved_and_commits_that_came_again_keep_their_order() {
    // 3 was pushed away by force; the branch was at 2 again, then went on to 4.
    let log: Vec<Logged> = [4, 2, 1].map(|number| logged(number, true)).into();
    let entries = [entry(4, "Failed"), entry(2, "Unchanged"), entry(3, "Deployed"), entry(2, "Deployed")];
    assert_eq!(shown(&entries, &log), ["4 Failed", "2 Unchanged", "3 Deployed", "2 Deployed"]);
    // Nothing of the branch was ever seen: its head is what waits.
    assert_eq!(shown(&[entry(9, "Deployed")], &log[..1]), ["4 Pending?", "9 Deployed"]);
    assert_eq!(shown(&[], &log[..1]), ["4 Pending?"]);
    assert_eq!(shown(&[], &[]), Vec::<String>::new());
}

/// The target, where commits of one letter ask for the same: `line` is newest first.
fn target(line: &[(u8, char)], entries: &[(u8, &str)]) -> Previous {
    let content = |commit: CommitId| line.iter().find(|(number, _)| id(*number) == commit).map(|(_, content)| *content);
    let entries: Vec<_> = entries.iter().map(|(number, outcome)| entry(*number, outcome)).collect();
    let line: Vec<_> = line.iter().map(|(number, _)| id(*number)).collect();
    previous(&line, &entries, |one, other| content(one) == content(other))
}

#[test]
fn a_roll_back_goes_to_what_was_deployed_before() {
    let to = |number| Previous::To { target: id(number), deployed: id(number) };
    // The head stands, has failed, or was not looked at yet.
    let line = [(3, 'c'), (2, 'b'), (1, 'a')];
    assert_eq!(target(&line, &[(3, "Deployed"), (2, "Deployed"), (1, "Deployed")]), to(2));
    assert_eq!(target(&line, &[(3, "Failed"), (2, "Failed"), (1, "Deployed")]), to(1));
    assert_eq!(target(&line, &[(2, "Deployed"), (1, "Deployed")]), to(2));
    assert_eq!(target(&line, &[(3, "Suspended"), (2, "SupersededBy"), (1, "Deployed")]), to(1));
    // A head that changes nothing is as its commit before: undoing that alone would do nothing.
    let line = [(4, 'c'), (3, 'c'), (2, 'b'), (1, 'a')];
    assert_eq!(target(&line, &[(3, "Deployed"), (2, "Deployed")]), to(2));
    assert_eq!(target(&line, &[(3, "Failed"), (2, "Deployed")]), to(2));
    // Nothing is known, or nothing before.
    assert_eq!(target(&line, &[]), Previous::Unknown);
    assert_eq!(target(&line, &[(4, "Deployed")]), Previous::Unknown);
    assert_eq!(target(&line, &[(9, "Deployed")]), Previous::Unknown, "not on the branch any more");
    assert_eq!(target(&[], &[(9, "Deployed")]), Previous::Unknown);
}

#[test]
fn nothing_is_reverted_in_vain() {
    // 2 and 3 came after the good one and changed nothing; 4 is the bad one.
    let line = [(5, 'd'), (4, 'c'), (3, 'a'), (2, 'a'), (1, 'a')];
    let found = target(&line, &[(5, "Failed"), (4, "Failed"), (1, "Deployed")]);
    assert_eq!(found, Previous::To { target: id(3), deployed: id(1) });
    // The same content again, after something else: only what follows the good one without a break.
    let line = [(5, 'd'), (4, 'a'), (3, 'c'), (2, 'a'), (1, 'a')];
    let found = target(&line, &[(5, "Failed"), (1, "Deployed")]);
    assert_eq!(found, Previous::To { target: id(2), deployed: id(1) });
}

#[test]
fn two_roll_backs_go_two_steps_back() {
    // 4 went back from 3 to 2.
    let line = [(4, 'b'), (3, 'c'), (2, 'b'), (1, 'a')];
    let entries = [(4, "Deployed"), (3, "Deployed"), (2, "Deployed"), (1, "Deployed")];
    assert_eq!(target(&line, &entries), Previous::To { target: id(1), deployed: id(1) });
    // Said twice in a hurry, before plumb has seen the first.
    assert_eq!(target(&line, &entries[1..]), Previous::UnderWay(id(2)));
    assert_eq!(target(&line, &[(3, "Failed"), (2, "Deployed"), (1, "Deployed")]), Previous::UnderWay(id(2)));
    // After a failure the way back changes nothing, and is written down as that.
    let entries = [(4, "Unchanged"), (3, "Failed"), (2, "Deployed"), (1, "Deployed")];
    assert_eq!(target(&line, &entries), Previous::To { target: id(1), deployed: id(1) });
    // The good one was tried again later: it is gone back from as if it had come first.
    let line = [(5, 'c'), (4, 'b'), (3, 'c'), (2, 'b'), (1, 'a')];
    let entries = [(5, "Deployed"), (4, "Deployed"), (3, "Deployed"), (2, "Deployed"), (1, "Deployed")];
    assert_eq!(target(&line, &entries), Previous::To { target: id(2), deployed: id(2) });
}

#[test]
fn a_commit_that_the_head_came_back_to_was_still_deployed() {
    let line = [(3, 'c'), (2, 'b'), (1, 'a')];
    assert_eq!(
        target(&line, &[(2, "Unchanged"), (3, "Failed"), (2, "Deployed")]),
        Previous::To { target: id(2), deployed: id(2) }
    );
}

#[test]
fn what_stands_is_the_last_commit_that_was_written_wholly_under_the_definition_in_force() {
    let with = |short: u8, history: &[(u8, &str, Option<&str>)], generations: (i64, i64)| {
        let entry = |(number, outcome, stage): &(u8, &str, Option<&str>)| HistoryEntry {
            stage: stage.map(str::to_owned),
            ..entry(*number, outcome)
        };
        let spec = serde_json::json!({"branch": "dev", "namespace": "n", "path": "."});
        let mut environment = Environment::new("dev", serde_json::from_value(spec).unwrap());
        environment.metadata.generation = Some(generations.0);
        environment.status = Some(EnvironmentStatus {
            short_commit: Some(id(short).short()),
            observed_generation: Some(generations.1),
            history: history.iter().map(entry).collect(),
            ..EnvironmentStatus::default()
        });
        deployed(&environment)
    };
    assert_eq!(with(1, &[(2, "Failed", Some("dry-run")), (1, "Deployed", None)], (1, 1)), Some(id(1)));
    assert_eq!(with(1, &[(1, "Suspended", None), (1, "Deployed", None)], (1, 1)), Some(id(1)));
    assert_eq!(with(1, &[(1, "Failed", Some("health"))], (1, 1)), Some(id(1)), "all of it was written");
    assert_eq!(with(1, &[(1, "Deployed", None)], (2, 1)), None, "another definition gives it other objects");
    assert_eq!(with(1, &[(1, "Failed", Some("apply"))], (1, 1)), None, "tried again, and not to the end");
    assert_eq!(with(1, &[(1, "SupersededBy", None)], (1, 1)), None);
    assert_eq!(with(1, &[(2, "Deployed", None)], (1, 1)), None, "too long ago");
    assert_eq!(
        deployed(&Environment::new(
            "dev",
            serde_json::from_value(serde_json::json!({"branch": "dev", "namespace": "n", "path": "."})).unwrap()
        )),
        None
    );
}
