//! All that a plan is made from.

use std::collections::HashMap;
use std::sync::Arc;

use crate::drift::fingerprint::Baseline;
use crate::model::{CommitId, Desired, Digest, EnvironmentSpec, Kinds, Live, Manifest, ObjectKey};

/// All that a plan is made from, at one moment.
pub struct Input<'a> {
    /// The environment's name.
    pub environment: &'a str,
    /// Its field manager.
    pub manager: &'a str,
    /// The id of its ApplySet: the value of the part-of label of its members.
    pub part_of: &'a str,
    /// Its definition.
    pub spec: &'a EnvironmentSpec,
    /// What the commit asks for.
    pub desired: &'a Desired,
    /// What the API server serves.
    pub kinds: &'a Kinds,
    /// What is remembered of each object's last apply in this life of plumb; `None`: not verified yet.
    pub baseline: &'a dyn Fn(&ObjectKey) -> Option<&'a Baseline>,
    /// Whether this is a Job that was made with just this content, and that goes by itself once it has run: then it need not stand.
    pub has_run: &'a dyn Fn(&Manifest) -> bool,
    /// Whether the environment has written this object, in whatever form, as far as is known: then it is its own although somebody took it away.
    pub had: &'a dyn Fn(&Manifest) -> bool,
    /// What was deployed with this content before and is not known to stand: `selfHeal: false` leaves it as it is. `None`: all is looked at anew.
    pub left: Option<&'a HashMap<ObjectKey, Digest>>,
    /// Every live object with our part-of label: the inventory.
    pub members: &'a HashMap<ObjectKey, Live>,
    /// The live metadata of desired objects that the inventory does not have, as read for adoption. An object in neither map does not stand.
    pub strangers: &'a HashMap<ObjectKey, Live>,
    /// The other environments of this plumb.
    pub peers: &'a dyn Peers,
    /// The namespaces that stand, of those the commit needs.
    pub namespaces: &'a HashMap<Arc<str>, NamespaceState>,
    /// Every kind that the environment ever applied has been listed, up to our last write at least. A new commit is best planned only
    /// then: the prune budget is asked before its first write if it is known, and later if it is not.
    pub inventory_complete: bool,
    /// The commit whose deletions somebody confirmed.
    pub confirmed_prune: Option<CommitId>,
    /// A first sync, a heal or a resync: an object that is refused fails alone. A new commit is refused as a whole.
    pub object_by_object: bool,
    /// The commit passed its gates before, or goes object by object: what the environment has of it stays its own, whoever else asks for it. A new commit
    /// that another environment's head disputes anything with is refused.
    pub keeps: bool,
    /// The environment's definition left git, so everything goes; what speaks for asking a person first, a sentence each.
    pub removal: Option<&'a [String]>,
}

/// Whether a namespace that stands can take objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamespaceState {
    /// It can.
    Active,
    /// It is being deleted: creating in it is answered 403.
    Terminating,
}

/// Who else asks for an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// No other environment.
    Nobody,
    /// The render of this environment's head has it, also if that head's plan is refused.
    Environment(Arc<str>),
    /// This environment may have it: it could put objects there, and has not rendered since plumb started.
    Unknown(Arc<str>),
}

/// The other environments of this plumb, seen from the one that is planned.
pub trait Peers {
    /// Who else asks for this object. One that asks goes before one that is not known.
    fn claim(&self, key: &ObjectKey) -> Claim;
    /// Whose head asks for this object too, as far as is known: whoever has a newer one that is not rendered asks for what it asked for before. A branch
    /// that is gone asks for nothing.
    fn contends(&self, key: &ObjectKey) -> Option<Arc<str>>;
    /// Whether the head of the environment that is planned asks for it, as far as is known.
    fn own_head_asks(&self, key: &ObjectKey) -> bool;
    /// The environment whose ApplySet has this id.
    fn environment_of(&self, part_of: &str) -> Option<Arc<str>>;
    /// The environment that writes as this field manager.
    fn environment_of_manager(&self, manager: &str) -> Option<Arc<str>>;
    /// Whether the head of this environment is rendered, so that it is known what it asks for.
    fn has_rendered(&self, environment: &str) -> bool;
    /// The environment whose own namespace this is.
    fn home_of(&self, namespace: &str) -> Option<Arc<str>>;
    /// An environment that may have objects in this namespace.
    fn lives_in(&self, namespace: &str) -> Option<Arc<str>>;
}
