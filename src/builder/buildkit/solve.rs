//! From an order to BuildKit's request.

use std::collections::{BTreeMap, HashMap};

use bollard_buildkit_proto::moby::buildkit::v1::frontend::ResolveImageConfigRequest;
use bollard_buildkit_proto::moby::buildkit::v1::sourcepolicy::{
    MatchType, Policy, PolicyAction, Rule, Selector, Update,
};
use bollard_buildkit_proto::moby::buildkit::v1::{Exporter, SolveRequest};
use tonic::{Request, Status};

use crate::builder::{BuildOrder, LABEL, reference};

/// The frontend that is built into buildkitd: nothing has to be pulled for it.
const FRONTEND: &str = "dockerfile.v0";

/// How an order is solved.
#[derive(Debug, Clone, Copy)]
pub(in crate::builder) struct How {
    /// Where the image goes.
    pub output: Output,
    /// Whether a step's result that is there already may be used.
    pub cache: bool,
    /// Whether the daemon knows named contexts, as those since BuildKit 0.10 and Docker 23 do.
    pub named_contexts: bool,
}

/// Where an image goes.
#[derive(Debug, Clone, Copy)]
pub(in crate::builder) enum Output {
    /// Into containerd's store.
    Store,
    /// Into the registry that the reference names.
    Registry {
        /// Whether plain HTTP, or a certificate that nobody knows, will do.
        insecure: bool,
    },
    /// Into the store of the Docker that BuildKit is a part of.
    Docker,
}

impl Output {
    /// The exporter and its attributes.
    fn exporter(self, reference: &str) -> Exporter {
        let name = ("name", reference::full(reference));
        let (exporter, attributes) = match self {
            Self::Store => {
                ("image", vec![name, ("unpack", "true".into()), ("store", "true".into()), ("push", "false".into())])
            }
            Self::Registry { insecure } => {
                ("image", vec![name, ("push", "true".into()), ("registry.insecure", insecure.to_string())])
            }
            // The image is as old as its content, by the build's argument; its name is as old as it is. Docker since 29 has the name's age from here, and
            // otherwise nobody could know when it is old enough to go.
            Self::Docker => ("moby", vec![name, ("source-date-epoch", String::new())]),
        };
        let attrs = attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Exporter { r#type: exporter.to_owned(), attrs }
    }
}

/// The request. `context` is the URL under which the session serves the context.
pub(super) fn request(order: &BuildOrder, session: &str, context: &str, how: &How) -> SolveRequest {
    let output = how.output.exporter(&order.reference);
    SolveRequest {
        r#ref: super::session::random_id(),
        session: session.to_owned(),
        frontend: FRONTEND.to_owned(),
        frontend_attrs: attributes(order, context, how),
        // What daemons before 0.13 read; later ones leave it when there is the field below.
        exporter_deprecated: output.r#type.clone(),
        exporter_attrs_deprecated: output.attrs.clone(),
        exporters: vec![output],
        source_policy: (how.named_contexts && !order.bases.is_empty()).then(|| own_bases(order)),
        ..SolveRequest::default()
    }
}

/// What a frontend asks of the build that it serves: what the registry has of this name. The node's own store is not asked.
pub(super) fn question(image: &str, build: &str) -> Result<Request<ResolveImageConfigRequest>, Status> {
    let mut question = Request::new(ResolveImageConfigRequest {
        r#ref: reference::full(image),
        resolve_mode: "pull".to_owned(),
        ..ResolveImageConfigRequest::default()
    });
    let build = build.parse().map_err(|_| Status::internal("a build's name is not ASCII"))?;
    question.metadata_mut().insert("buildkit-controlapi-buildid", build);
    Ok(question)
}

/// The bases of this repository are taken from the node, and a registry is asked only for what is not there. Otherwise BuildKit asks first for a
/// named context, whatever `image-resolve-mode` says: it waits for a registry that has no such image, or gets somebody else's.
fn own_bases(order: &BuildOrder) -> Policy {
    let local = HashMap::from([("image.resolvemode".to_owned(), "local".to_owned())]);
    let rules = order.bases.values().map(|reference| Rule {
        action: PolicyAction::Convert.into(),
        selector: Some(Selector {
            identifier: format!("docker-image://{}", reference::full(reference)),
            match_type: MatchType::Exact.into(),
            constraints: Vec::new(),
        }),
        updates: Some(Update { identifier: String::new(), attrs: local.clone() }),
    });
    Policy { version: 1, rules: rules.collect() }
}

fn attributes(order: &BuildOrder, context: &str, how: &How) -> HashMap<String, String> {
    let mut attributes = HashMap::from([
        ("context".to_owned(), context.to_owned()),
        ("filename".to_owned(), order.dockerfile.clone()),
        // What the node has is taken; the rest is pulled. The tag of a build says nothing of what a registry answers today.
        ("image-resolve-mode".to_owned(), "local".to_owned()),
        // The same content makes the same image, whenever it is built.
        ("build-arg:SOURCE_DATE_EPOCH".to_owned(), "0".to_owned()),
    ]);
    // Otherwise it is looked for in the context.
    let beside = super::dockerfile::Beside::of(order);
    attributes.extend(beside.map(|dockerfile| ("dockerfilekey".to_owned(), dockerfile.name())));
    attributes.extend((!how.cache).then(|| ("no-cache".to_owned(), String::new())));
    attributes.extend(order.target.clone().map(|target| ("target".to_owned(), target)));
    attributes.extend(order.platform.clone().map(|platform| ("platform".to_owned(), platform)));
    attributes.extend(order.args.iter().map(|(name, value)| (format!("build-arg:{name}"), value.clone())));
    attributes.extend(labels(order).into_iter().map(|(name, value)| (format!("label:{name}"), value)));
    let bases = order.bases.iter().filter(|_| how.named_contexts);
    attributes.extend(bases.map(|(name, reference)| {
        (format!("context:{}", familiar(name)), format!("docker-image://{}", reference::full(reference)))
    }));
    attributes
}

/// The labels of an image, plumb's own among them.
pub(in crate::builder) fn labels(order: &BuildOrder) -> BTreeMap<String, String> {
    let mut labels = order.labels.clone();
    labels.insert(LABEL.to_owned(), order.reference.clone());
    labels
}

/// A name as BuildKit looks for it among the named contexts: short, and without `:latest`.
fn familiar(name: &str) -> String {
    let full = reference::full(name);
    let short = full.strip_prefix("docker.io/library/").or_else(|| full.strip_prefix("docker.io/")).unwrap_or(&full);
    short.strip_suffix(":latest").unwrap_or(short).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_of_an_order_arrives() {
        let order = BuildOrder {
            reference: "todo-backend:0123".to_owned(),
            dockerfile: "docker/Dockerfile".to_owned(),
            ignored_dockerfile: None,
            target: Some("release".to_owned()),
            args: BTreeMap::from([("PROFILE".to_owned(), "release".to_owned())]),
            platform: Some("linux/arm64".to_owned()),
            labels: BTreeMap::from([("org.opencontainers.image.revision".to_owned(), "abc".to_owned())]),
            bases: BTreeMap::from([("docker.io/library/base:latest".to_owned(), "base:77".to_owned())]),
        };
        let how = How { output: Output::Store, cache: true, named_contexts: true };
        let request = request(&order, "session", "http://buildkit-session/x", &how);
        let expected = [
            ("build-arg:PROFILE", "release"),
            ("build-arg:SOURCE_DATE_EPOCH", "0"),
            ("context", "http://buildkit-session/x"),
            ("context:base", "docker-image://docker.io/library/base:77"),
            ("filename", "docker/Dockerfile"),
            ("image-resolve-mode", "local"),
            ("label:dev.plumb.image", "todo-backend:0123"),
            ("label:org.opencontainers.image.revision", "abc"),
            ("platform", "linux/arm64"),
            ("target", "release"),
        ];
        let sent: BTreeMap<&str, &str> = request.frontend_attrs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(sent, BTreeMap::from(expected));
        let rules = request.source_policy.unwrap().rules;
        assert_eq!(rules[0].selector.as_ref().unwrap().identifier, "docker-image://docker.io/library/base:77");
        let output = &request.exporters[0];
        assert_eq!(
            (output.r#type.as_str(), output.attrs["name"].as_str()),
            ("image", "docker.io/library/todo-backend:0123")
        );

        let how = How { output: Output::Docker, ..how };
        let request = super::request(&order, "session", "http://buildkit-session/x", &how);
        assert_eq!(request.frontend_attrs["build-arg:SOURCE_DATE_EPOCH"], "0");
        assert_eq!(request.exporters[0].attrs["source-date-epoch"], "", "not the name's age");

        let ignored = BuildOrder { ignored_dockerfile: Some("FROM scratch\n".to_owned()), ..order };
        let attributes = super::request(&ignored, "session", "http://buildkit-session/x", &how).frontend_attrs;
        assert!(attributes["dockerfilekey"].starts_with("dockerfile-"), "{attributes:?}");
    }

    #[test]
    fn a_named_context_has_the_name_that_buildkit_looks_for() {
        let table = [
            ("base", "base"),
            ("base:latest", "base"),
            ("base:1", "base:1"),
            ("docker.io/team/base", "team/base"),
            ("registry:5000/base", "registry:5000/base"),
        ];
        for (name, expected) in table {
            assert_eq!(familiar(name), expected);
        }
    }
}
