//! What holds for any entries: nothing is lost, and nothing of others is taken but what is claimed.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn some_fields() -> impl Strategy<Value = Value> {
    let leaf = || prop::collection::btree_set("[a-c]", 0..3);
    (leaf(), leaf(), any::<bool>()).prop_map(|(data, spec, annotated)| {
        let fields = |names: std::collections::BTreeSet<String>| -> Value {
            names.into_iter().map(|name| (format!("f:{name}"), json!({}))).collect::<serde_json::Map<_, _>>().into()
        };
        let mut all = json!({"f:data": fields(data), "f:spec": fields(spec)});
        if annotated {
            all["f:metadata"] = json!({"f:annotations": {format!("f:{LAST_APPLIED}"): {}}});
        }
        all
    })
}

fn some_entries() -> impl Strategy<Value = Vec<ManagedFieldsEntry>> {
    let managers = prop::sample::select(vec![CLIENT_SIDE_APPLY, "kubectl-edit", "before-first-apply", "other"]);
    let one = (managers, prop::sample::select(vec![APPLY, UPDATE]), some_fields(), prop::bool::weighted(0.2));
    let one = one.prop_map(|(manager, operation, fields, scale)| ManagedFieldsEntry {
        subresource: scale.then(|| "scale".to_owned()),
        ..entry(manager, operation, fields)
    });
    (prop::collection::vec(one, 0..5), prop::option::of(some_fields())).prop_map(|(mut entries, ours)| {
        entries.extend(ours.map(|fields| entry(DEV, APPLY, fields)));
        entries
    })
}

fn all(entries: &[ManagedFieldsEntry]) -> FieldSet {
    entries.iter().fold(FieldSet::default(), |all, entry| all.union(&fields(entry).unwrap()))
}

proptest! {
    /// Claiming moves exactly what is claimed: it is ours afterwards, nobody else's where it can be taken, and nothing else moved.
    #[test]
    fn claiming_takes_exactly_what_is_claimed(entries in some_entries(), wanted in some_fields()) {
        let wanted = set(wanted);
        let after = claim(&entries, DEV, "v1", &wanted).unwrap().unwrap_or_else(|| entries.clone());
        prop_assert_eq!(all(&after).difference(&wanted), all(&entries).difference(&wanted));
        let others = after.iter().filter(|e| !is_apply_of(e, DEV) && (is_main(e, APPLY) || is_main(e, UPDATE)));
        prop_assert!(all(&others.cloned().collect::<Vec<_>>()).intersection(&wanted).is_empty());
        if !wanted.is_empty() {
            let ours = after.iter().find(|entry| is_apply_of(entry, DEV)).unwrap();
            prop_assert!(wanted.difference(&fields(ours).unwrap()).is_empty());
        }
        prop_assert_eq!(claim(&after, DEV, "v1", &wanted).unwrap().filter(|again| all(again) != all(&after)), None);
    }

    /// What is foreign is nobody of plumb's, and no place of ours.
    #[test]
    fn what_is_foreign_is_not_ours(entries in some_entries()) {
        let ours = entries.iter().filter(|entry| is_apply_of(entry, DEV)).cloned().collect::<Vec<_>>();
        let foreign = foreign(&entries).unwrap();
        prop_assert!(foreign.intersection(&all(&ours)).is_empty());
        prop_assert!(foreign.difference(&all(&entries)).is_empty());
    }

    /// In one apiVersion, migrating moves ownership and loses none; and it is done once.
    #[test]
    fn migrating_loses_no_field(entries in some_entries()) {
        let Some(after) = migrate_client_side_apply(&entries, DEV).unwrap() else {
            prop_assert!(!entries.iter().any(is_client_side));
            return Ok(());
        };
        prop_assert_eq!(all(&after), all(&entries));
        prop_assert_eq!(after.iter().filter(|entry| is_apply_of(entry, DEV)).count(), 1);
        prop_assert_eq!(migrate_client_side_apply(&after, DEV).unwrap(), None);
        let others = |of: &[ManagedFieldsEntry]| {
            of.iter().filter(|e| !is_client_side(e) && !is_apply_of(e, DEV)).cloned().collect::<Vec<_>>()
        };
        prop_assert_eq!(others(&after), others(&entries));
    }

    /// After it, nobody but those that are named owns what is lost, besides us; and nothing else is taken from anybody.
    #[test]
    fn releasing_takes_exactly_what_is_lost(entries in some_entries(), lost in some_fields()) {
        let lost = set(lost);
        let released = release_pins(&entries, DEV, &lost).unwrap();
        let after = released.entries.clone().unwrap_or_else(|| entries.clone());
        prop_assert_eq!(all(&after).difference(&lost), all(&entries).difference(&lost));
        if !entries.iter().any(|entry| is_apply_of(entry, DEV)) {
            prop_assert_eq!(after, entries);
            return Ok(());
        }
        let still: FieldSet = released.kept.iter().fold(FieldSet::default(), |all, kept| all.union(&kept.fields));
        let others: Vec<_> = after.iter().filter(|entry| !is_apply_of(entry, DEV)).cloned().collect();
        prop_assert_eq!(all(&others).intersection(&lost), still);
        prop_assert_eq!(release_pins(&after, DEV, &lost).unwrap().entries, None);
    }
}
