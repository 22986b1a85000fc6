use serde_json::json;

use super::*;
use crate::model::CommitId;
use crate::plan::Peers as _;

fn spec(namespace: &str, cluster_scoped: &[&str]) -> EnvironmentSpec {
    let allow = json!({"clusterScoped": cluster_scoped});
    serde_json::from_value(json!({"branch": "b", "namespace": namespace, "path": ".", "allow": allow})).unwrap()
}

fn asks_for(book: &PeerBook, environment: &str) {
    book.claims(environment, &Desired::only(CommitId::new([1; 20]), Vec::new()));
}

#[test]
fn a_removed_environment_asks_for_nothing_and_lives_nowhere() {
    let book = PeerBook::default();
    let object = ObjectKey::new("", "ConfigMap", "todo", "a");
    book.enter("dev", &spec("todo", &[]));
    assert_eq!(book.seen_from("prod").claim(&object), Claim::Unknown("dev".into()));
    assert_eq!(book.seen_from("prod").home_of("todo"), Some("dev".into()));
    let changes = book.subscribe();
    let before = *changes.borrow();

    book.removed("dev", &spec("todo", &[]));
    book.removed("dev", &spec("todo", &[]));
    assert_eq!(*changes.borrow(), before + 1, "told once, so that whoever waits goes on");
    let view = book.seen_from("prod");
    assert_eq!(view.claim(&object), Claim::Nobody);
    assert!(view.has_rendered("dev"), "what it has may be taken over");
    assert_eq!(view.environment_of(&applyset::id("dev")), Some("dev".into()));
    assert_eq!((view.home_of("todo"), view.lives_in("todo")), (None, None));
    drop(view);

    // Defined again, nobody knows what it asks for.
    book.enter("dev", &spec("todo", &[]));
    let view = book.seen_from("prod");
    assert!(!view.has_rendered("dev") && view.claim(&object) == Claim::Unknown("dev".into()));
    assert_eq!(view.home_of("todo"), Some("dev".into()));
    drop(view);
    book.not_rendered("dev");
    assert_eq!(
        book.seen_from("prod").claim(&object),
        Claim::Unknown("dev".into()),
        "nor if its head can't be rendered"
    );
    asks_for(&book, "dev");
    assert_eq!(book.seen_from("prod").claim(&object), Claim::Nobody);
}

#[test]
fn who_may_make_namespaces_is_waited_for_by_all() {
    let book = PeerBook::default();
    for (name, spec) in [("dev", spec("dev", &[])), ("qa", spec("qa", &[])), ("infra", spec("infra", &["Namespace"]))] {
        book.enter(name, &spec);
    }
    asks_for(&book, "dev");
    assert!(book.awaited("dev", |_| ()), "infra may ask for the namespace dev");
    asks_for(&book, "infra");
    assert!(!book.awaited("dev", |_| ()), "qa may not");
    assert_eq!(book.seen_from("infra").lives_in("qa"), Some("qa".into()));
}

/// A commit that was refused beside the others is looked at again when they change, not because of what it asks for itself.
#[test]
fn what_an_environment_asks_for_is_no_change_beside_it() {
    let book = PeerBook::default();
    for name in ["dev", "prod"] {
        book.enter(name, &spec("todo", &[]));
    }
    let before = (book.changes_beside("dev"), book.changes_beside("prod"));
    asks_for(&book, "dev");
    assert_eq!((book.changes_beside("dev"), book.changes_beside("prod")), (before.0, before.1 + 1));
    asks_for(&book, "dev");
    book.enter("dev", &spec("todo", &[]));
    assert_eq!((book.changes_beside("dev"), book.changes_beside("prod")), (before.0, before.1 + 1), "the same again");
    asks_for(&book, "prod");
    assert_eq!((book.changes_beside("dev"), book.changes_beside("prod")), (before.0 + 1, before.1 + 1));
}
