use super::*;
use crate::source::{Arrival, Promotion};

fn promote(store: &Store, commit: CommitId) -> Result<(Draft, Promotion), WriteError> {
    let mut draft = Draft::begin(store, "staging", store.heads().unwrap().branches.get("staging").copied())?;
    let promotion = draft.promote("dev", "staging", commit)?;
    Ok((draft, promotion))
}

#[tokio::test]
async fn a_promotion_makes_the_branch_moves_it_or_merges() {
    let scratch = Scratch::new();
    let (bare, work) = repository(&scratch);
    let first = head(&work, "HEAD");
    let store = open(&bare);
    let (draft, promotion) = promote(&store, first).unwrap();
    assert_eq!((promotion.arrival, draft.commits().len()), (Arrival::FastForward, 0));
    draft.publish(&local(&bare)).await.unwrap();
    assert_eq!(head(&bare, "staging"), first);
    assert_eq!(promote(&store, first).unwrap().1.arrival, Arrival::Already);

    let second = push(&work, "a.txt", "two");
    let (draft, promotion) = promote(&store, second).unwrap();
    assert_eq!((promotion.arrival, promotion.count, promotion.brings.len()), (Arrival::FastForward, 1, 1));
    draft.publish(&local(&bare)).await.unwrap();
    assert_eq!(head(&bare, "staging"), second);

    git(&work, &["switch", "-qc", "staging"]);
    let own = push(&work, "staging.txt", "own");
    git(&work, &["switch", "-q", "dev"]);
    let third = push(&work, "a.txt", "three");
    let (draft, promotion) = promote(&store, third).unwrap();
    assert_eq!((promotion.arrival, promotion.brings), (Arrival::Merge, vec![(third, "a.txt: three".to_owned())]));
    draft.publish(&local(&bare)).await.unwrap();
    let told = git(&bare, &["log", "-1", "--format=%P%n%B", "staging"]);
    assert!(told.starts_with(&format!("{own} {third}\nPromote dev to staging\n")), "{told}");
    assert!(told.contains(&format!("* {} a.txt: three", third.short())), "{told}");
    git(&work, &["fetch", "-q"]);
    git(&work, &["switch", "-q", "--detach", &own.to_string()]);
    git(&work, &["merge", "-q", "-m", "by git", &third.to_string()]);
    assert_eq!(tree(&work, head(&work, "HEAD")), tree(&bare, head(&bare, "staging")));
}

#[test]
fn a_promotion_that_conflicts_names_the_files_and_writes_nothing() {
    let scratch = Scratch::new();
    let (bare, work) = repository(&scratch);
    git(&work, &["switch", "-qc", "staging"]);
    commit(&work, "deep/b.txt", "theirs");
    push(&work, "a.txt", "staging's");
    git(&work, &["switch", "-q", "dev"]);
    commit(&work, "deep/b.txt", "ours");
    let dev = push(&work, "a.txt", "dev's");
    let before = files(&bare);
    let error = promote(&open(&bare), dev).err().unwrap();
    let WriteError::Conflict { files: named, .. } = &error else { panic!("{error}") };
    assert_eq!(named, &["a.txt", "deep/b.txt"]);
    assert_eq!(files(&bare), before);

    git(&work, &["switch", "-q", "--orphan", "stranger"]);
    let stranger = push(&work, "x.txt", "x");
    assert!(matches!(promote(&open(&bare), stranger).err().unwrap(), WriteError::Unrelated { .. }));
}
