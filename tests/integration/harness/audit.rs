//! What the API server says was requested: its audit log, one event a request, written when it was answered.
//! <https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/>

use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::eventually;

/// One request. Watches are here only when they have ended.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    pub verb: String,
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    pub user: AuditUser,
    pub impersonated_user: Option<AuditUser>,
    #[serde(default)]
    pub user_agent: String,
    #[serde(default)]
    pub object_ref: ObjectRef,
    pub response_status: Option<ResponseStatus>,
    pub request_received_timestamp: DateTime<Utc>,
    pub stage_timestamp: DateTime<Utc>,
}

/// Who asked: the user of the certificate, or the one that it acted as.
#[derive(Debug, Clone, Deserialize)]
pub struct AuditUser {
    pub username: String,
}

/// What was asked for; empty strings where a request has none (lists have no name).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectRef {
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub api_group: String,
    pub api_version: String,
}

/// How it was answered.
#[derive(Debug, Clone, Deserialize)]
pub struct ResponseStatus {
    #[serde(default)]
    pub code: u16,
}

impl AuditEvent {
    /// Whether the request only asked what would happen.
    pub fn is_dry_run(&self) -> bool {
        let query = self.request_uri.split_once('?').map_or("", |(_, query)| query);
        query.split('&').any(|pair| pair == "dryRun=All")
    }

    /// Whether it would change something, were it not for a dry run.
    pub fn is_write(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
    }

    /// The HTTP status of the answer; 0 if there was none.
    pub fn code(&self) -> u16 {
        self.response_status.as_ref().map_or(0, |status| status.code)
    }
}

/// The requests of one user, to be narrowed down and counted: `audit.of("configmaps").writes().len()`.
#[derive(Debug, Clone)]
pub struct Audit(pub Vec<AuditEvent>);

impl Audit {
    /// Those that `keep` says.
    #[must_use]
    pub fn only(&self, keep: impl Fn(&AuditEvent) -> bool) -> Self {
        Self(self.0.iter().filter(|event| keep(event)).cloned().collect())
    }

    /// Those on a resource, by its plural name; not on its subresources.
    #[must_use]
    pub fn of(&self, resource: &str) -> Self {
        self.only(|event| event.object_ref.resource == resource && event.object_ref.subresource.is_empty())
    }

    /// Those in a namespace.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Self {
        self.only(|event| event.object_ref.namespace == namespace)
    }

    /// Those with a verb of RBAC: get, list, watch, create, update, patch, delete, deletecollection.
    #[must_use]
    pub fn verb(&self, verb: &str) -> Self {
        self.only(|event| event.verb == verb)
    }

    /// Those that changed something, or tried to.
    #[must_use]
    pub fn writes(&self) -> Self {
        self.only(|event| event.is_write() && !event.is_dry_run())
    }

    /// Those that only asked what would happen.
    #[must_use]
    pub fn dry_runs(&self) -> Self {
        self.only(AuditEvent::is_dry_run)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A moment in the log: what was answered before it is behind it.
#[derive(Debug, Clone, Copy)]
pub struct AuditMark(u64);

/// The log, as far as one user is concerned.
#[derive(Clone)]
pub struct AuditLog {
    path: PathBuf,
    user: String,
    client: kube::Client,
}

impl AuditLog {
    /// `client` is `user`'s.
    pub fn new(path: PathBuf, user: String, client: kube::Client) -> Self {
        Self { path, user, client }
    }

    /// Before everything.
    pub fn start(&self) -> AuditMark {
        AuditMark(0)
    }

    /// Now.
    pub async fn mark(&self) -> AuditMark {
        self.read_until_now(AuditMark(0)).await.1
    }

    /// All requests of the user that were answered since `mark`, without watches and without those of this log.
    pub async fn since(&self, mark: AuditMark) -> Audit {
        let all = self.since_with_watches(mark).await;
        all.only(|event| event.verb != "watch")
    }

    /// The same, with the watches that ended.
    pub async fn since_with_watches(&self, mark: AuditMark) -> Audit {
        self.read_until_now(mark).await.0
    }

    /// The API server writes an event before it ends the answer (`--audit-log-mode blocking`). So when one more request,
    /// made now, is found in the log, everything that was answered before it is there too. What a test has seen by its effect may be answered a moment later.
    async fn read_until_now(&self, from: AuditMark) -> (Audit, AuditMark) {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let uri = format!("{SENTINEL}{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        tokio::time::sleep(ANSWERED_AFTER).await;
        let request = http::Request::get(&uri).body(Vec::new()).expect("a request");
        self.client.request_text(request).await.expect("the API server answers");
        eventually(Duration::from_secs(10), || async { self.read(from, &uri) }).await
    }

    fn read(&self, from: AuditMark, until: &str) -> anyhow::Result<(Audit, AuditMark)> {
        let mut file = std::fs::File::open(&self.path)?;
        file.seek(SeekFrom::Start(from.0))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let (mut events, mut offset) = (Vec::new(), from.0);
        for line in text.split_inclusive('\n') {
            offset += line.len() as u64;
            // Most lines are other tests'; to parse them all would cost more than the test.
            if !line.contains(&self.user) {
                continue;
            }
            let event: AuditEvent = serde_json::from_str(line)?;
            if event.request_uri == until {
                return Ok((Audit(events), AuditMark(offset)));
            }
            if event.user.username == self.user && !event.request_uri.starts_with(SENTINEL) {
                events.push(event);
            }
        }
        anyhow::bail!("the audit log does not hold {until} yet")
    }
}

/// Every user may ask for the version; the query makes a request known again.
const SENTINEL: &str = "/version?audit-mark=";

/// Between the effect of a request and its answer.
const ANSWERED_AFTER: Duration = Duration::from_millis(50);
