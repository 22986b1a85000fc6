//! Whatever happened on a branch, the way back leads to the files of the target.

use proptest::prelude::*;

use super::*;

/// One thing that happens to a random history.
#[derive(Debug, Clone)]
enum Event {
    /// Files are written or removed on a branch.
    Commit { side: bool, file: u8, content: Option<u8> },
    /// The side branch is merged, its content winning or not.
    Merge { theirs: bool },
    /// The side branch starts anew from the main one.
    Fork,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => (any::<bool>(), 0..5_u8, proptest::option::weighted(0.8, 0..4_u8))
            .prop_map(|(side, file, content)| Event::Commit { side, file, content }),
        2 => any::<bool>().prop_map(|theirs| Event::Merge { theirs }),
        1 => Just(Event::Fork),
    ];
    proptest::collection::vec(event, 1..16)
}

/// The main branch's own line, oldest first, and the commits that were made beside it.
fn history(repository: &git2::Repository, events: &[Event]) -> (Vec<git2::Oid>, Vec<git2::Oid>) {
    let who = git2::Signature::new("Grace", "grace@example.com", &git2::Time::new(0, 0)).unwrap();
    let mut number = 0;
    let mut write = |tree: git2::Oid, parents: &[git2::Oid]| {
        // No two commits are the same one.
        number += 1;
        let parents: Vec<_> = parents.iter().map(|id| repository.find_commit(*id).unwrap()).collect();
        let (tree, parents) = (repository.find_tree(tree).unwrap(), parents.iter().collect::<Vec<_>>());
        repository.commit(None, &who, &who, &format!("change {number}"), &tree, &parents).unwrap()
    };
    let tree_of = |commit: git2::Oid| repository.find_commit(commit).unwrap().tree_id();
    let empty = repository.treebuilder(None).unwrap().write().unwrap();
    let mut line = vec![write(empty, &[])];
    let (mut side, mut beside) = (line[0], Vec::new());
    for event in events {
        let main = *line.last().unwrap();
        match event {
            Event::Commit { side: on_side, file, content } => {
                let parent = if *on_side { side } else { main };
                let mut update = git2::build::TreeUpdateBuilder::new();
                let base = repository.find_tree(tree_of(parent)).unwrap();
                let path = format!("d{}/f{file}", file % 2);
                if let Some(content) = content {
                    update.upsert(&path, repository.blob(&[*content]).unwrap(), git2::FileMode::Blob);
                } else if base.get_path(Path::new(&path)).is_ok() {
                    update.remove(&path);
                }
                let id = write(update.create_updated(repository, &base).unwrap(), &[parent]);
                if *on_side {
                    side = id;
                    beside.push(id);
                } else {
                    line.push(id);
                }
            }
            Event::Merge { theirs } => line.push(write(tree_of(if *theirs { side } else { main }), &[main, side])),
            Event::Fork => side = main,
        }
    }
    (line, beside)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    /// Whatever happened: going back to a commit of the branch leaves exactly its files, and a revert undoes exactly its commit.
    #[test]
    fn going_back_leaves_the_files_of_the_target(events in events(), pick in any::<prop::sample::Index>()) {
        let directory = tempfile::tempdir().unwrap();
        let repository = git2::Repository::init_bare(directory.path()).unwrap();
        who(directory.path());
        let (line, beside) = history(&repository, &events);
        let (at, head) = (pick.index(line.len()), *line.last().unwrap());
        repository.reference("refs/heads/dev", head, true, "test").unwrap();
        let id = |id: git2::Oid| id.to_string().parse::<CommitId>().unwrap();
        let wanted = repository.find_commit(line[at]).unwrap().tree_id();
        for squash in [false, true] {
            let draft = roll_back(&open(directory.path()), "dev", id(line[at]), squash).unwrap();
            let drafted = draft.store().repository().unwrap();
            let find = |commit: CommitId| drafted.find_commit(commit.to_string().parse().unwrap()).unwrap();
            prop_assert_eq!(find(draft.head().unwrap()).tree_id(), wanted);
            prop_assert!(!squash || draft.commits().len() <= 1);
            for made in draft.commits().iter().filter(|_| !squash) {
                let [reverted] = reverted(made)[..] else { panic!("{made:?}") };
                let (made, reverted) = (find(made.id), find(reverted));
                prop_assert_eq!(made.parent(0).unwrap().tree_id(), reverted.tree_id());
                prop_assert_eq!(made.tree_id(), reverted.parent(0).unwrap().tree_id());
            }
        }
        // What came by a merge can't be reverted to, but taken whole.
        let older = |newer: git2::Oid, older: git2::Oid| repository.graph_descendant_of(newer, older).unwrap();
        for target in beside.into_iter().filter(|id| older(head, *id)) {
            let reverts = roll_back(&open(directory.path()), "dev", id(target), false);
            prop_assert!(matches!(reverts, Err(WriteError::BesideTheLine { .. })), "only with --squash");
            let draft = roll_back(&open(directory.path()), "dev", id(target), true).unwrap();
            let drafted = draft.store().repository().unwrap();
            let tree = |commit: git2::Oid| drafted.find_commit(commit).unwrap().tree_id();
            prop_assert_eq!(tree(draft.head().unwrap().to_string().parse().unwrap()), tree(target));
            let undone = line.iter().rev().filter(|on_line| !older(target, **on_line));
            let undone = undone.filter(|on_line| tree(**on_line) != tree(repository.find_commit(**on_line).unwrap().parent_id(0).unwrap()));
            let undone: Vec<_> = undone.map(|on_line| id(*on_line)).collect();
            prop_assert!(draft.is_empty() || reverted(&draft.commits()[0]) == undone);
        }
    }
}
