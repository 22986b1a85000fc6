//! Which state of an object counts, and which changes are told to whom.

use super::*;
use crate::model::Health;
use crate::model::health::Status;

fn live(part_of: Option<&str>, resource_version: ResourceVersion) -> Live {
    Live { uid: "u".into(), resource_version, part_of: part_of.map(Into::into), ..Live::default() }
}

fn where_is(state: &State, key: &ObjectKey) -> Vec<(String, ResourceVersion)> {
    let found = state
        .members
        .iter()
        .filter_map(|(part_of, members)| Some((part_of.to_string(), members.get(key)?.resource_version)));
    found.collect()
}

#[test]
fn an_older_state_changes_nothing_and_a_label_moves_the_object() {
    let (mut state, key) = (State::default(), ObjectKey::new("", "ConfigMap", "n", "a"));
    state.put(key.clone(), live(Some("dev"), 5), true);
    state.put(key.clone(), live(Some("dev"), 4), true);
    assert_eq!(where_is(&state, &key), [("dev".to_owned(), 5)]);
    state.put(key.clone(), live(Some("prod"), 4), true);
    assert_eq!(where_is(&state, &key), [("dev".to_owned(), 5)], "an old event of a former owner");
    state.put(key.clone(), live(Some("prod"), 6), true);
    assert_eq!(where_is(&state, &key), [("prod".to_owned(), 6)]);
    state.put(key.clone(), live(None, 7), true);
    assert!(where_is(&state, &key).is_empty(), "without the label it is nobody's");
}

#[test]
fn a_deletion_older_than_the_object_that_took_its_name_is_passed_over() {
    let (mut state, key) = (State::default(), ObjectKey::new("", "ConfigMap", "n", "a"));
    state.put(key.clone(), live(Some("dev"), 9), true);
    state.remove(&key, 8);
    assert_eq!(where_is(&state, &key).len(), 1);
    state.remove(&key, 10);
    assert!(where_is(&state, &key).is_empty());
}

#[test]
fn a_change_of_health_is_told_and_other_changes_of_status_are_not() {
    let (mut state, key) = (State::default(), ObjectKey::new("apps", "Deployment", "n", "a"));
    state.followers.insert("dev".into(), Follower::default());
    let told = |state: &mut State| std::mem::take(&mut state.followers.get_mut("dev").unwrap().health);
    let with = |version, message: Option<&str>| {
        let health = message.map(|message| Box::new(Health::new(Status::InProgress, "TooFewReady", message)));
        Live { health, counted: true, ..live(Some("dev"), version) }
    };
    state.put(key.clone(), with(1, Some("0 of 2")), false);
    assert!(told(&mut state), "it is new");
    state.put(key.clone(), with(2, Some("0 of 2")), true);
    assert!(!told(&mut state));
    for message in [Some("1 of 2"), None] {
        state.put(key.clone(), with(3, message), true);
        assert!(told(&mut state), "{message:?}");
    }
    state.put(key.clone(), Live { terminating: true, ..with(4, None) }, true);
    assert!(told(&mut state), "it goes");
    state.remove(&key, 5);
    assert!(told(&mut state), "it is gone");
}

#[test]
fn the_answer_to_a_write_does_not_hide_what_the_watch_has_shown() {
    let (mut state, key) = (State::default(), ObjectKey::new("", "Service", "n", "a"));
    let unseen = |version| Live { health: Some(Box::new(health::unseen())), ..live(Some("dev"), version) };
    let says = |state: &State| state.members["dev"][&key].health.is_some();
    state.put(key.clone(), live(Some("dev"), 1), true);
    state.put(key.clone(), unseen(2), false);
    assert!(says(&state), "what the write makes of it is not known");
    state.put(key.clone(), live(Some("dev"), 2), true);
    assert!(!says(&state));
    state.put(key.clone(), unseen(2), false);
    assert!(!says(&state), "the answer came after the event");
}

/// What one object costs: the entry of the map, and what belongs to it alone on the heap. What objects share is interned.
fn bytes(key: &ObjectKey, live: &Live) -> usize {
    let health =
        live.health.as_ref().map_or(0, |health| size_of::<Health>() + health.reason.len() + health.message.len());
    let applied = live.applied.capacity() * size_of::<crate::model::live::ApplyEntry>();
    let name = key.name.len() + 2 * size_of::<usize>();
    size_of::<(ObjectKey, Live)>() + name + live.uid.len() + applied + health
}

#[test]
#[allow(clippy::print_stdout, reason = "the figures are what one runs it for")]
fn of_a_whole_object_little_is_kept() {
    let text = include_str!("../../health/tests/objects/deployment.yaml");
    let (kind, mut state) = (GroupKind::new("apps", "Deployment"), State::default());
    let mut kept = |title: &str| {
        let document = text.split("\n---\n").find(|document| document.contains(title)).unwrap();
        let object: serde_json::Value = serde_yaml::from_str(document).unwrap();
        let sent = object.to_string().len();
        let object = serde_json::from_value(object).unwrap();
        let live = sink::take_in(&kind, &object, &mut state.interner);
        let bytes = bytes(&key_of(&kind, &object.metadata), &live);
        println!("{title}: {bytes} bytes of {sent} that were sent, managedFields and pod template not counted");
        (live.health.is_some(), bytes)
    };
    let (says, well) = kept("recorded: all pods ready");
    assert!(!says && well < 512, "{well}");
    let (says, waits) = kept("recorded: one of two pods ready");
    assert!(says && waits < well + 160, "{waits}");
}

fn changes(state: &mut State) -> Vec<(String, Option<ResourceVersion>)> {
    let changed = std::mem::take(&mut state.followers.get_mut("dev").unwrap().changed);
    changed.into_iter().map(|(key, touched)| (key.name.to_string(), touched)).collect()
}

#[test]
fn changes_by_others_are_told_once_and_our_own_writes_and_status_are_not() {
    let (mut state, key) = (State::default(), ObjectKey::new("apps", "Deployment", "n", "a"));
    state.followers.insert("dev".into(), Follower::default());
    let with = |version, ownership, marks| Live { ownership, marks, counted: true, ..live(Some("dev"), version) };
    state.put(key.clone(), with(1, 1, 1), false);
    assert!(changes(&mut state).is_empty(), "our own write");
    state.put(key.clone(), with(1, 1, 1), true);
    state.put(key.clone(), with(2, 2, 1), true);
    state.put(key.clone(), with(3, 2, 1), true);
    assert!(changes(&mut state).is_empty(), "a status written, and once more within the second");
    state.put(key.clone(), with(4, 2, 2), true);
    assert_eq!(changes(&mut state), [("a".to_owned(), Some(4))], "a write without a trace in managedFields");
    state.put(key.clone(), Live { terminating: true, ..with(5, 2, 3) }, true);
    assert_eq!(changes(&mut state), [("a".to_owned(), None)]);
    state.remove(&key, 6);
    assert_eq!(changes(&mut state), [("a".to_owned(), None)]);
    assert!(changes(&mut state).is_empty());
}

#[test]
fn of_what_is_followed_closely_any_change_is_told() {
    let (mut state, key) = (State::default(), ObjectKey::new("", "ConfigMap", "n", "a"));
    state.followers.insert("dev".into(), Follower { closely: [key.clone()].into(), ..Follower::default() });
    let with = |version, ownership| Live { ownership, ..live(Some("dev"), version) };
    state.put(key.clone(), with(1, 1), false);
    state.put(key.clone(), with(1, 1), true);
    assert!(changes(&mut state).is_empty());
    state.put(key.clone(), with(2, 2), true);
    assert_eq!(changes(&mut state), [("a".to_owned(), None)]);
    state.followers.get_mut("dev").unwrap().closely.clear();
    state.put(key.clone(), with(3, 3), true);
    assert!(changes(&mut state).is_empty());
}

#[test]
fn an_object_whose_label_was_taken_off_or_changed_is_told_to_the_environment_it_left() {
    let (mut state, key) = (State::default(), ObjectKey::new("", "ConfigMap", "n", "a"));
    state.followers.insert("dev".into(), Follower::default());
    for leaves in [live(None, 2), live(Some("prod"), 2)] {
        state.members.clear();
        state.put(key.clone(), live(Some("dev"), 1), false);
        state.put(key.clone(), leaves, true);
        assert_eq!(changes(&mut state), [("a".to_owned(), None)]);
    }
}

#[test]
fn an_object_that_took_the_place_of_another_was_not_written_without_a_trace() {
    let (mut state, key) = (State::default(), ObjectKey::new("", "ConfigMap", "n", "a"));
    state.followers.insert("dev".into(), Follower::default());
    state.put(key.clone(), live(Some("dev"), 1), false);
    state.put(key.clone(), Live { uid: "another".into(), ..live(Some("dev"), 2) }, true);
    assert_eq!(changes(&mut state), [("a".to_owned(), None)]);
}
