//! A model of a cluster with some environments: what a plan is made from, and what carrying it out would leave.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::json;

use crate::drift::fingerprint::Baseline;
use crate::model::kinds::KindInfo;
use crate::model::live::{ApplyEntry, Owner};
use crate::model::{
    CommitId, Desired, Digest, EnvironmentSpec, GroupKind, Kinds, Live, Manifest, ObjectKey, Origin, Reads,
};
use crate::plan::{Action, Claim, Input, NamespaceState, Peers, Plan, Planned, Step, plan};

pub const COMMIT: CommitId = CommitId::new([7; 20]);

/// The ApplySet id of an environment of this world.
pub fn part_of(environment: &str) -> Arc<str> {
    format!("applyset-{environment}-v1").into()
}

pub fn manager(environment: &str) -> Arc<str> {
    format!("plumb-{environment}").into()
}

pub fn namespace(name: &str) -> ObjectKey {
    ObjectKey::new("", "Namespace", "", name)
}

pub fn config_map(name: &str) -> ObjectKey {
    ObjectKey::new("", "ConfigMap", "todo", name)
}

pub fn key(group: &str, kind: &str, name: &str) -> ObjectKey {
    ObjectKey::new(group, kind, "todo", name)
}

pub fn manifest(key: &ObjectKey, content: u32) -> Arc<Manifest> {
    manifest_of(key, "v1", json!({"kind": &*key.kind.kind, "metadata": {"name": &*key.name}, "content": content}))
}

pub fn manifest_of(key: &ObjectKey, version: &str, json: serde_json::Value) -> Arc<Manifest> {
    let text = json.to_string();
    Arc::new(Manifest {
        key: key.clone(),
        version: version.into(),
        origin: Origin { file: format!("app/{}.yaml", key.name).into(), line: 1, document: 1 },
        digest: Digest::of(text.as_bytes()),
        json: serde_json::value::RawValue::from_string(text).unwrap(),
        replace_immutable: false,
        made_anew: false,
        left_alone: None,
    })
}

/// A live object without anybody's mark.
pub fn bare(uid: &str) -> Live {
    Live { uid: uid.into(), resource_version: 1, ..Live::default() }
}

/// A live object that this environment applied.
pub fn owned_by(environment: &str, uid: &str) -> Live {
    let entry = ApplyEntry { manager: manager(environment), fields: r#"{"f:data":{}}"#.into(), time: Some(1) };
    Live { part_of: Some(part_of(environment)), applied: vec![entry], ..bare(uid) }
}

pub fn helm(live: Live) -> Live {
    Live { owner: Some(Box::new(Owner::Helm("todo/web".to_owned()))), ..live }
}

/// What another environment asks for; `None`: it has not rendered.
pub type Heads = BTreeMap<String, Option<Vec<ObjectKey>>>;

/// The other environments of a world.
#[derive(Debug, Default)]
pub struct OtherHeads {
    pub heads: Heads,
    /// What the environment's own head does not ask for any more.
    pub dropped: Vec<ObjectKey>,
    /// Their own namespaces; the first is theirs, the others they may write to.
    pub namespaces: BTreeMap<String, Vec<String>>,
}

impl Peers for OtherHeads {
    fn claim(&self, key: &ObjectKey) -> Claim {
        let asks = |head: &Option<Vec<ObjectKey>>| head.as_ref().is_some_and(|keys| keys.contains(key));
        let name = |(name, _): (&String, _)| Arc::from(name.as_str());
        let unknown = || self.heads.iter().find(|(_, head)| head.is_none()).map(name);
        match self.heads.iter().find(|(_, head)| asks(head)).map(name) {
            Some(environment) => Claim::Environment(environment),
            None => unknown().map_or(Claim::Nobody, Claim::Unknown),
        }
    }

    fn contends(&self, key: &ObjectKey) -> Option<Arc<str>> {
        match self.claim(key) {
            Claim::Environment(environment) => Some(environment),
            Claim::Unknown(_) | Claim::Nobody => None,
        }
    }

    fn own_head_asks(&self, key: &ObjectKey) -> bool {
        !self.dropped.contains(key)
    }

    fn environment_of(&self, id: &str) -> Option<Arc<str>> {
        self.heads.keys().find(|name| *part_of(name) == *id).map(|name| Arc::from(name.as_str()))
    }

    fn environment_of_manager(&self, of: &str) -> Option<Arc<str>> {
        self.heads.keys().find(|name| *manager(name) == *of).map(|name| Arc::from(name.as_str()))
    }

    fn has_rendered(&self, environment: &str) -> bool {
        self.heads.get(environment).is_some_and(Option::is_some)
    }

    fn home_of(&self, namespace: &str) -> Option<Arc<str>> {
        let at_home = |of: &Vec<String>| of.first().is_some_and(|home| home == namespace);
        self.namespaces.iter().find(|(_, of)| at_home(of)).map(|(name, _)| Arc::from(name.as_str()))
    }

    fn lives_in(&self, namespace: &str) -> Option<Arc<str>> {
        let lives = |of: &Vec<String>| of.iter().any(|known| known == namespace);
        self.namespaces.iter().find(|(_, of)| lives(of)).map(|(name, _)| Arc::from(name.as_str()))
    }
}

/// A cluster, and the environment `dev` in it.
#[derive(Debug)]
pub struct World {
    pub spec: EnvironmentSpec,
    pub kinds: Kinds,
    pub objects: Vec<Arc<Manifest>>,
    pub cluster: HashMap<ObjectKey, Live>,
    pub baselines: HashMap<ObjectKey, Baseline>,
    /// Jobs that have run, with this content.
    pub ran: HashMap<ObjectKey, Digest>,
    pub left: HashMap<ObjectKey, Digest>,
    pub peers: OtherHeads,
    pub namespaces: HashMap<Arc<str>, NamespaceState>,
    pub inventory_complete: bool,
    pub confirmed: Option<CommitId>,
    pub object_by_object: bool,
    /// The commit passed its gates before.
    pub taken: bool,
    pub remarks: Vec<String>,
    pub removal: Option<Vec<String>>,
}

impl World {
    /// A complete inventory, the namespace `todo`, the built-in kinds that tests use, no other environment.
    pub fn new(objects: impl IntoIterator<Item = Arc<Manifest>>) -> Self {
        let spec = json!({"branch": "dev", "namespace": "todo", "path": "."});
        let mut kinds = Kinds::new("v1.36.3");
        for (group, kind, plural, namespaced) in [
            ("", "ConfigMap", "configmaps", true),
            ("", "Secret", "secrets", true),
            ("", "Service", "services", true),
            ("", "PersistentVolumeClaim", "persistentvolumeclaims", true),
            ("", "Namespace", "namespaces", false),
            ("apps", "Deployment", "deployments", true),
            ("apps", "StatefulSet", "statefulsets", true),
            ("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions", false),
            (
                "admissionregistration.k8s.io",
                "ValidatingWebhookConfiguration",
                "validatingwebhookconfigurations",
                false,
            ),
        ] {
            let info = KindInfo { version: "v1".into(), plural: plural.into(), namespaced };
            kinds.add(GroupKind::new(group, kind), info);
        }
        Self {
            spec: serde_json::from_value(spec).unwrap(),
            kinds,
            objects: objects.into_iter().collect(),
            cluster: HashMap::new(),
            baselines: HashMap::new(),
            ran: HashMap::new(),
            left: HashMap::new(),
            peers: OtherHeads::default(),
            namespaces: HashMap::from([("todo".into(), NamespaceState::Active)]),
            inventory_complete: true,
            confirmed: None,
            object_by_object: false,
            taken: false,
            remarks: Vec::new(),
            removal: None,
        }
    }

    pub fn with(mut self, key: &ObjectKey, live: Live) -> Self {
        self.cluster.insert(key.clone(), live);
        self
    }

    pub fn with_peer(mut self, name: &str, head: Option<&[ObjectKey]>) -> Self {
        self.peers.heads.insert(name.to_owned(), head.map(<[_]>::to_vec));
        self
    }

    /// Another environment's own namespace, and others it may write to.
    pub fn with_home(mut self, name: &str, namespaces: &[&str]) -> Self {
        self.peers.namespaces.insert(name.to_owned(), namespaces.iter().map(ToString::to_string).collect());
        self
    }

    /// Plans, and hands the input to `also`, for what a test wants to see of it.
    pub fn plan(&self) -> Planned {
        self.with_input(plan)
    }

    pub fn with_input<R>(&self, read: impl FnOnce(&Input<'_>) -> R) -> R {
        let ours = part_of("dev");
        let is_member = |live: &Live| live.part_of.as_deref() == Some(&*ours);
        let desired = Desired {
            commit: COMMIT,
            objects: self.objects.clone(),
            images: Vec::new(),
            reads: Reads::default(),
            remarks: self.remarks.clone(),
        };
        let split = |member: bool| {
            let all = self.cluster.iter().filter(|(_, live)| is_member(live) == member);
            all.map(|(key, live)| (key.clone(), live.clone())).collect::<HashMap<_, _>>()
        };
        let (members, mut strangers) = (split(true), split(false));
        strangers.retain(|key, _| self.objects.iter().any(|object| object.key == *key));
        read(&Input {
            environment: "dev",
            manager: &manager("dev"),
            part_of: &ours,
            spec: &self.spec,
            desired: &desired,
            kinds: &self.kinds,
            baseline: &|key| self.baselines.get(key),
            has_run: &|manifest| self.ran.get(&manifest.key) == Some(&manifest.digest),
            had: &|manifest| {
                let key = &manifest.key;
                self.baselines.contains_key(key) || self.left.contains_key(key) || self.ran.contains_key(key)
            },
            left: Some(&self.left),
            members: &members,
            strangers: &strangers,
            peers: &self.peers,
            namespaces: &self.namespaces,
            inventory_complete: self.inventory_complete,
            confirmed_prune: self.confirmed,
            object_by_object: self.object_by_object,
            keeps: self.object_by_object || self.taken,
            removal: self.removal.as_deref(),
        })
    }

    /// The plan, which must be ready.
    pub fn ready(&self) -> Plan {
        match self.plan() {
            Planned::Ready(plan) => plan,
            other => panic!("not ready: {other:?}"),
        }
    }

    /// What is done with this object.
    pub fn action(&self, key: &ObjectKey) -> Action {
        self.step(key).action
    }

    pub fn step(&self, key: &ObjectKey) -> Step {
        let plan = self.ready();
        plan.steps.into_iter().find(|step| step.key == *key).unwrap_or_else(|| panic!("no step for {key}"))
    }

    /// The refusals, of which there must be some.
    pub fn refusals(&self) -> Vec<String> {
        match self.plan() {
            Planned::Refused(refused) => {
                refused.iter().map(|r| format!("{}: {}; {}", r.key, r.reason, r.hint)).collect()
            }
            other => panic!("not refused: {other:?}"),
        }
    }

    /// Carries a plan out, as the API server would.
    pub fn carry_out(&mut self, plan: &Plan) {
        for step in &plan.steps {
            let stands = self.cluster.get(&step.key).map(|live| live.uid.clone());
            match &step.action {
                Action::Keep | Action::Hold | Action::HandOver { .. } => continue,
                Action::Prune => {
                    assert_eq!(step.precondition.as_ref().map(|p| p.uid.clone()), stands, "{}", step.key);
                    self.cluster.remove(&step.key);
                }
                Action::Create => {
                    assert_eq!(stands, None, "{} is created over what stands", step.key);
                    self.apply(step, &format!("new-{}", step.key));
                }
                Action::Update | Action::Adopt | Action::TakeOver { .. } | Action::Replace => {
                    let uid = stands.unwrap_or_else(|| panic!("{} does not stand", step.key));
                    assert_eq!(step.precondition.as_ref().map(|p| &p.uid), Some(&uid));
                    self.apply(step, &uid);
                }
            }
        }
    }

    fn apply(&mut self, step: &Step, uid: &str) {
        let manifest = step.manifest.as_ref().unwrap();
        let mut live = self.cluster.remove(&step.key).unwrap_or_else(|| bare(uid));
        live.resource_version += 1;
        live.part_of = Some(part_of("dev"));
        let leaves = |entry: &ApplyEntry| step.let_go.iter().any(|environment| entry.manager == manager(environment));
        live.applied.retain(|entry| *entry.manager != *manager("dev") && !leaves(entry));
        let fields = r#"{"f:data":{}}"#.into();
        live.applied.push(ApplyEntry { manager: manager("dev"), fields, time: Some(2) });
        let baseline = Baseline::of(manifest.digest, &live, &manager("dev")).unwrap();
        self.baselines.insert(step.key.clone(), baseline);
        self.cluster.insert(step.key.clone(), live);
    }
}
