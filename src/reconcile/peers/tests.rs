use serde_json::json;

use super::*;
use crate::plan::Peers as _;
use crate::plan::tests::world::{config_map, manifest};

/// One head of one environment, as git has it.
#[derive(Clone)]
struct Head(Arc<Definition>, u8);

impl Head {
    fn of(name: &str, namespace: &str) -> Self {
        Self::with(name, namespace, json!({}))
    }

    fn with(name: &str, namespace: &str, allow: serde_json::Value) -> Self {
        let spec = json!({"branch": "b", "namespace": namespace, "path": ".", "allow": allow});
        let (labels, annotations, file) = (Default::default(), Default::default(), "environment.yaml".into());
        let spec = serde_json::from_value(spec).unwrap();
        Self(Arc::new(Definition { name: name.to_owned(), labels, annotations, spec, file }), 1)
    }

    /// The same environment at another commit.
    fn at(&self, commit: u8) -> Self {
        Self(Arc::clone(&self.0), commit)
    }

    fn commit(&self) -> CommitId {
        CommitId::new([self.1; 20])
    }

    /// Its render ends, and asks for these ConfigMaps in the namespace `todo`.
    fn asks_for(&self, book: &PeerBook, objects: &[&str]) {
        let manifest = |name: &&str| manifest(&config_map(name), 1);
        book.claims(&self.0, &Desired::only(self.commit(), objects.iter().map(manifest).collect()));
    }

    /// It can't be rendered.
    fn fails(&self, book: &PeerBook) {
        book.not_rendered(&self.0, self.commit());
    }
}

impl PeerBook {
    fn head(&self, head: &Head) {
        self.enter([(&head.0, Some(head.commit()))]);
    }

    /// Who asks for a ConfigMap, seen from `prod`.
    fn claim_of(&self, name: &str) -> Claim {
        self.seen_from("prod").claim(&config_map(name))
    }
}

/// A book with `dev` and `prod` in the namespace `todo`; dev asks for `a` and prod for nothing.
fn two() -> (PeerBook, Head, Head) {
    let (book, dev, prod) = (PeerBook::default(), Head::of("dev", "todo"), Head::of("prod", "todo"));
    book.head(&dev);
    book.head(&prod);
    dev.asks_for(&book, &["a"]);
    prod.asks_for(&book, &[]);
    assert_eq!(book.claim_of("a"), Claim::Environment("dev".into()));
    assert_eq!(book.claim_of("moving"), Claim::Nobody);
    (book, dev, prod)
}

fn unknown() -> Claim {
    Claim::Unknown("dev".into())
}

/// An object moves from prod to dev's third commit in one push, while dev's second is still being rendered.
#[test]
fn a_render_of_an_older_head_does_not_tell_what_the_head_asks_for() {
    let (book, dev, prod) = two();
    book.head(&dev.at(2));
    book.enter([(&dev.0, Some(dev.at(3).commit())), (&prod.0, Some(prod.at(2).commit()))]);
    assert_eq!(book.claim_of("moving"), unknown());
    dev.at(2).asks_for(&book, &["b"]);
    assert_eq!(book.claim_of("moving"), unknown());
    assert!(!book.seen_from("prod").has_rendered("dev") && book.awaited("prod", |_| ()), "and is waited for");
    dev.at(3).asks_for(&book, &["moving"]);
    assert_eq!(book.claim_of("moving"), Claim::Environment("dev".into()));
    assert!(!book.awaited("prod", |_| ()));
    // Whoever is still slower changes nothing.
    dev.at(2).asks_for(&book, &["b"]);
    dev.at(2).fails(&book);
    assert_eq!(book.claim_of("moving"), Claim::Environment("dev".into()));
    assert_eq!(book.claim_of("b"), Claim::Nobody);
}

#[test]
fn an_older_head_that_cant_be_rendered_tells_nothing_either() {
    let (book, dev, _) = two();
    book.head(&dev.at(2));
    book.head(&dev.at(3));
    dev.at(2).fails(&book);
    assert_eq!((book.claim_of("moving"), book.awaited("prod", |_| ())), (unknown(), true));
    dev.at(3).fails(&book);
    assert_eq!(book.claim_of("moving"), Claim::Nobody, "it asks for what it asked for before");
    assert_eq!(book.claim_of("a"), Claim::Environment("dev".into()));
}

#[test]
fn what_was_asked_for_before_is_what_the_last_good_render_says() {
    let (book, dev, _) = two();
    book.head(&dev.at(2));
    book.head(&dev.at(3));
    dev.at(2).asks_for(&book, &["b"]);
    dev.at(3).fails(&book);
    assert_eq!((book.claim_of("a"), book.claim_of("b")), (Claim::Nobody, Claim::Environment("dev".into())));
}

/// A start on a head that can't be rendered, or without the branch: what stood before is restored, and is what is asked for.
#[test]
fn what_is_restored_is_what_is_asked_for_as_long_as_nothing_else_is_known() {
    let known = |book: &PeerBook| {
        assert_eq!([book.claim_of("a"), book.claim_of("b")], [Claim::Environment("dev".into()), Claim::Nobody])
    };
    let (dev, prod) = (Head::of("dev", "todo"), Head::of("prod", "todo"));
    let book = PeerBook::default();
    book.head(&dev.at(2));
    book.head(&prod);
    dev.at(2).fails(&book);
    assert_eq!(book.claim_of("a"), unknown(), "nothing was ever rendered");
    dev.asks_for(&book, &["a"]);
    known(&book);
    dev.at(3).asks_for(&book, &["b"]);
    known(&book); // A later render of what is not the head tells nothing any more.

    let book = PeerBook::default();
    book.enter([(&dev.0, None), (&prod.0, Some(prod.commit()))]);
    assert_eq!(book.claim_of("a"), unknown());
    dev.asks_for(&book, &["a"]);
    known(&book);
}

/// The same commit may ask for something else under another definition.
#[test]
fn a_render_under_an_older_definition_does_not_tell_what_the_newest_asks_for() {
    let (book, dev, _) = two();
    let wider = Head::with("dev", "todo", json!({"namespaces": ["more"]}));
    let there = ObjectKey::new("", "ConfigMap", "more", "moving");
    assert_eq!(book.seen_from("prod").claim(&there), Claim::Nobody);
    book.head(&wider);
    assert_eq!(book.seen_from("prod").claim(&there), unknown(), "where it may put objects is known at once");
    dev.asks_for(&book, &["a"]);
    dev.fails(&book);
    assert_eq!((book.claim_of("moving"), book.awaited("prod", |_| ())), (unknown(), true));
    wider.asks_for(&book, &["moving"]);
    assert_eq!(book.claim_of("moving"), Claim::Environment("dev".into()));
}

/// Nobody renders it again: its task has seen the first head and then the same one.
#[test]
fn a_head_that_went_forth_and_back_is_known() {
    let (book, dev, _) = two();
    book.head(&dev.at(2));
    let mut waiting = book.subscribe();
    book.head(&dev);
    assert_eq!(book.claim_of("a"), Claim::Environment("dev".into()));
    assert!(waiting.has_changed().unwrap(), "whoever waits for it goes on");
    waiting.mark_unchanged();
    // Also one that could not be rendered.
    book.head(&dev.at(2));
    dev.at(2).fails(&book);
    book.head(&dev.at(3));
    book.head(&dev.at(2));
    assert_eq!((book.claim_of("a"), book.claim_of("b")), (Claim::Environment("dev".into()), Claim::Nobody));
}

#[test]
fn what_was_told_before_is_no_news() {
    let (book, dev, _) = two();
    book.head(&dev);
    book.enter([(&dev.0, None)]);
    assert_eq!(book.claim_of("a"), Claim::Environment("dev".into()), "its branch is gone: nothing is pruned of it");
    book.head(&dev.at(2));
    assert!(book.awaited("prod", |peer| peer.standing = Standing::Late));
    book.head(&dev.at(2));
    assert!(!book.awaited("prod", |_| ()), "it is not waited for again");
    assert_eq!(book.claim_of("moving"), unknown());
    book.head(&dev.at(3));
    assert!(book.awaited("prod", |_| ()), "a new head is");
}

#[test]
fn of_what_leaves_git_no_render_tells_anything() {
    let (book, dev, _) = two();
    book.unsettled("dev");
    dev.asks_for(&book, &["a"]);
    dev.fails(&book);
    assert_eq!(book.claim_of("a"), unknown());
    // It was not meant.
    book.head(&dev);
    assert_eq!(book.claim_of("a"), Claim::Environment("dev".into()));
}

#[test]
fn a_removed_environment_asks_for_nothing_and_lives_nowhere() {
    let (book, dev) = (PeerBook::default(), Head::of("dev", "todo"));
    book.head(&dev);
    assert_eq!(book.claim_of("a"), unknown());
    assert_eq!(book.seen_from("prod").home_of("todo"), Some("dev".into()));
    let changes = book.subscribe();
    let before = *changes.borrow();

    book.removed("dev", &dev.0.spec);
    book.removed("dev", &dev.0.spec);
    assert_eq!(*changes.borrow(), before + 1, "told once, so that whoever waits goes on");
    dev.asks_for(&book, &["a"]);
    let view = book.seen_from("prod");
    assert_eq!(view.claim(&config_map("a")), Claim::Nobody);
    assert!(view.has_rendered("dev"), "what it has may be taken over");
    assert_eq!(view.environment_of(&applyset::id("dev")), Some("dev".into()));
    assert_eq!((view.home_of("todo"), view.lives_in("todo")), (None, None));
    drop(view);

    // Defined again, nobody knows what it asks for.
    book.head(&dev);
    let view = book.seen_from("prod");
    assert!(!view.has_rendered("dev") && view.claim(&config_map("a")) == unknown());
    assert_eq!(view.home_of("todo"), Some("dev".into()));
    drop(view);
    dev.fails(&book);
    assert_eq!(book.claim_of("a"), unknown(), "nor if its head can't be rendered");
    dev.asks_for(&book, &[]);
    assert_eq!(book.claim_of("a"), Claim::Nobody);
}

#[test]
fn who_may_make_namespaces_is_waited_for_by_all() {
    let book = PeerBook::default();
    let (dev, qa) = (Head::of("dev", "dev"), Head::of("qa", "qa"));
    let infra = Head::with("infra", "infra", json!({"clusterScoped": ["Namespace"]}));
    [&dev, &qa, &infra].iter().for_each(|head| book.head(head));
    dev.asks_for(&book, &[]);
    assert!(book.awaited("dev", |_| ()), "infra may ask for the namespace dev");
    infra.asks_for(&book, &[]);
    assert!(!book.awaited("dev", |_| ()), "qa may not");
    assert_eq!(book.seen_from("infra").lives_in("qa"), Some("qa".into()));
}

/// A commit that was refused beside the others is looked at again when they change, not because of what it asks for itself.
#[test]
fn what_an_environment_asks_for_is_no_change_beside_it() {
    let (book, dev, prod) = (PeerBook::default(), Head::of("dev", "todo"), Head::of("prod", "todo"));
    [&dev, &prod].iter().for_each(|head| book.head(head));
    let before = (book.changes_beside("dev"), book.changes_beside("prod"));
    dev.asks_for(&book, &[]);
    assert_eq!((book.changes_beside("dev"), book.changes_beside("prod")), (before.0, before.1 + 1));
    dev.asks_for(&book, &[]);
    book.head(&dev.at(2));
    dev.at(2).asks_for(&book, &[]);
    assert_eq!((book.changes_beside("dev"), book.changes_beside("prod")), (before.0, before.1 + 1), "the same again");
    prod.asks_for(&book, &[]);
    assert_eq!((book.changes_beside("dev"), book.changes_beside("prod")), (before.0 + 1, before.1 + 1));
}

/// Who else claims what an environment has: object, other, and whether it is that one's own namespace.
fn clashes(book: &PeerBook, environment: &str, has: &[ObjectKey]) -> Vec<(String, String, bool)> {
    let clashes = book.seen_from(environment).clashes(has.iter());
    let told = clashes.into_iter().map(|clash| {
        let other = if clash.one == environment { clash.other } else { clash.one };
        (clash.object.to_string(), other, clash.home)
    });
    told.collect()
}

#[test]
fn who_has_an_object_is_told_who_asks_for_it_too_until_that_ends() {
    let (book, dev, prod) = two();
    let told = [("ConfigMap/todo/a".to_owned(), "dev".to_owned(), false)];
    let has = [config_map("a"), config_map("mine")];
    assert_eq!(clashes(&book, "prod", &has), [], "its own head has let it go");
    prod.asks_for(&book, &["a", "mine"]);
    assert_eq!(clashes(&book, "prod", &has), told);
    assert_eq!(clashes(&book, "prod", &has[1..]), []);
    // A push that is not rendered yet, or can't be, ends nothing and asks for nothing else.
    book.head(&dev.at(2));
    assert_eq!(clashes(&book, "prod", &has), told);
    dev.at(2).fails(&book);
    assert_eq!(clashes(&book, "prod", &has), told);
    book.head(&dev.at(3));
    dev.at(3).asks_for(&book, &["b"]);
    assert_eq!(clashes(&book, "prod", &has), []);
    prod.asks_for(&book, &["b"]);
    assert_eq!(clashes(&book, "dev", &[config_map("b")])[0].1, "prod");
    // A branch that is gone deploys nothing any more, and what its environment has stays its own.
    let before = book.changes_beside("dev");
    book.enter([(&prod.0, None)]);
    assert_eq!(clashes(&book, "dev", &[config_map("b")]), []);
    assert_eq!(book.seen_from("dev").contends(&config_map("b")), None);
    assert_eq!(book.seen_from("dev").claim(&config_map("b")), Claim::Environment("prod".into()));
    assert_ne!(book.changes_beside("dev"), before, "who was refused for it tries again");
    book.head(&prod);
    assert_eq!(clashes(&book, "dev", &[config_map("b")])[0].1, "prod");
    book.removed("prod", &prod.0.spec);
    assert_eq!(clashes(&book, "dev", &[config_map("b")]), []);
}

#[test]
fn a_namespace_is_claimed_by_who_is_in_it_and_who_asks_for_it() {
    let book = PeerBook::default();
    let infra = Head::with("infra", "infra", json!({"clusterScoped": ["Namespace"]}));
    let prod = Head::of("prod", "home");
    let home = ObjectKey::new("", "Namespace", "", "home");
    book.head(&infra);
    book.head(&prod);
    let wants = Desired::only(infra.commit(), vec![manifest(&home, 1)]);
    book.claims(&infra.0, &wants);
    prod.asks_for(&book, &["a"]);
    let told = |other: &str| [("Namespace/home".to_owned(), other.to_owned(), true)];
    assert_eq!(clashes(&book, "infra", std::slice::from_ref(&home)), told("prod"));
    assert_eq!(clashes(&book, "prod", &[config_map("a")]), told("infra"));
    // One that asks for its own namespace itself: it is an object like any other.
    book.claims(&prod.0, &Desired::only(prod.commit(), vec![manifest(&home, 1)]));
    let [(_, other, own)] = &clashes(&book, "prod", std::slice::from_ref(&home))[..] else { panic!("told once") };
    assert_eq!((&**other, *own), ("infra", false));
    book.removed("prod", &prod.0.spec);
    assert_eq!(clashes(&book, "infra", &[home]), []);
}

#[test]
fn a_definition_that_reaches_elsewhere_is_a_change_beside_the_others() {
    let (book, dev, _) = two();
    let changes = || (book.changes_beside("prod"), book.changes_beside("dev"));
    let (beside_prod, beside_dev) = changes();
    book.head(&Head::of("dev", "elsewhere"));
    assert_eq!(changes(), (beside_prod + 1, beside_dev));
    book.head(&Head::of("dev", "elsewhere"));
    assert_eq!(changes(), (beside_prod + 1, beside_dev));
    book.head(&Head::of("qa", "todo"));
    assert_eq!(changes(), (beside_prod + 2, beside_dev + 1));
    drop(dev);
}
