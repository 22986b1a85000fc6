//! What stands in the cluster that the inventory does not have: read before an object is created, so that adopting is never mistaken for it.

use std::collections::{BTreeMap, HashMap, HashSet};

use kube::core::Request;
use kube::core::params::GetParams;
use serde::Deserialize;

use super::api::As;
use super::apply::{Metadata, Writer};
use super::error::ClusterError;
use super::inventory::{Inventory, key_of};
use crate::model::applyset::PART_OF;
use crate::model::kinds::{Kinds, Lookup};
use crate::model::{Desired, GroupKind, Live, ObjectKey};
use crate::plan::{Action, NamespaceState, Plan};

/// From how many objects of one kind and namespace on one list is cheaper than a request each.
const LIST_FROM: usize = 3;

/// What was found of the objects that git asks for and the inventory does not have.
#[derive(Debug, Default)]
pub struct Strangers {
    /// The live metadata of those that stand: without the environment's label.
    pub standing: HashMap<ObjectKey, Live>,
    /// All that were looked for.
    asked: HashSet<ObjectKey>,
}

impl Strangers {
    /// Whether the plan makes objects that nobody looked for: they left the inventory since. It may be that just their label is gone.
    pub fn missed(&self, plan: &Plan) -> bool {
        plan.steps.iter().any(|step| step.action == Action::Create && !self.asked.contains(&step.key))
    }
}

/// Reads the live metadata of the desired objects that the inventory does not have: one list a kind and namespace, or one request each for a few.
pub async fn strangers(
    writer: Writer<'_>,
    inventory: &Inventory,
    desired: &Desired,
    part_of: &str,
    kinds: &Kinds,
) -> Result<Strangers, ClusterError> {
    let mut absent: BTreeMap<(GroupKind, &str), Vec<&ObjectKey>> = BTreeMap::new();
    let (mut infos, mut found) = (HashMap::new(), Strangers::default());
    inventory.with_members(part_of, |members| {
        for manifest in desired.objects.iter().filter(|manifest| !members.contains_key(&manifest.key)) {
            let key = &manifest.key;
            found.asked.insert(key.clone());
            // A kind that is not served yet has no objects.
            if let Lookup::Served(info) = kinds.lookup(&key.kind, &manifest.version) {
                infos.entry(key.kind.clone()).or_insert_with(|| info.clone());
                absent.entry((key.kind.clone(), key.namespace_or_empty())).or_default().push(key);
            }
        }
    });
    for ((kind, _), keys) in absent {
        let (Some(info), Some(first)) = (infos.get(&kind), keys.first()) else { continue };
        if keys.len() < LIST_FROM {
            for key in keys {
                if let Some(object) = writer.metadata(key, info).await? {
                    found.standing.insert(key.clone(), inventory.reduce(&object));
                }
            }
            continue;
        }
        // What bears the label is the watch's to tell: of a namespace full of ours, nothing else is sent.
        let others = format!("{PART_OF}!={part_of}");
        let wanted: HashSet<&ObjectKey> = keys.iter().copied().collect();
        let take = |object: Metadata| {
            let key = key_of(&kind, &object.metadata);
            if wanted.contains(&key) {
                found.standing.insert(key, inventory.reduce(&object));
            }
        };
        writer.metadata_list(first, info, &others, take).await?;
    }
    Ok(found)
}

#[derive(Deserialize)]
struct Namespace {
    metadata: kube::core::ObjectMeta,
}

/// Reads one namespace's state; `None` if it does not stand.
pub async fn namespace(writer: Writer<'_>, name: &str) -> Result<Option<NamespaceState>, ClusterError> {
    let request = Request::new("/api/v1/namespaces").get(name, &GetParams::default());
    let answer = writer.caller.call::<Namespace>(&|| format!("read the namespace {name}"), As::Plumb, request).await;
    match answer {
        Ok(namespace) if namespace.metadata.deletion_timestamp.is_some() => Ok(Some(NamespaceState::Terminating)),
        Ok(_) => Ok(Some(NamespaceState::Active)),
        Err(error) if error.code() == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes a namespace, as plumb itself; somebody else having made it in the meantime is fine.
pub async fn make_namespace(writer: Writer<'_>, name: &str, environment: &str) -> Result<(), ClusterError> {
    let body = serde_json::json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "annotations": {"plumb.dev/environment": environment}},
    });
    let params = kube::core::params::PostParams { dry_run: false, field_manager: Some("plumb".to_owned()) };
    let request = Request::new("/api/v1/namespaces").create(&params, body.to_string().into_bytes());
    let answer =
        writer.caller.call::<serde_json::Value>(&|| format!("make the namespace {name}"), As::Plumb, request).await;
    match answer {
        Err(error) if error.status().is_some_and(kube::core::Status::is_already_exists) => Ok(()),
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::fields::FieldSet;
    use crate::plan::{Reason, Step};

    fn makes(key: &ObjectKey) -> Step {
        Step {
            key: key.clone(),
            action: Action::Create,
            reason: Reason::Absent,
            manifest: None,
            precondition: None,
            checkable: true,
            redefined: false,
            migrate: false,
            let_go: Vec::new(),
            leaves: FieldSet::default(),
            takes: Vec::new(),
        }
    }

    #[test]
    fn what_is_made_must_have_been_looked_for() {
        let [one, other] = ["a", "b"].map(|name| ObjectKey::new("", "ConfigMap", "n", name));
        let strangers = Strangers { asked: HashSet::from([one.clone()]), ..Strangers::default() };
        let plan = |steps: Vec<Step>| Plan { steps, ..Plan::default() };
        assert!(!strangers.missed(&plan(vec![makes(&one)])));
        assert!(strangers.missed(&plan(vec![makes(&one), makes(&other)])));
        let kept = Step { action: Action::Keep, ..makes(&other) };
        assert!(!strangers.missed(&plan(vec![kept])));
    }
}
