//! The watch against an API server whose answers are written down here.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::cluster::inventory::Inventory;
use crate::cluster::limiter::Limiter;
use crate::model::applyset::PART_OF;
use crate::model::kinds::KindInfo;
use crate::model::{GroupKind, Kinds};

/// Longer than any of this takes.
const SOON: Duration = Duration::from_secs(30);

/// A version that is not served; requests of it are not noted.
const GONE: &str = "v1beta1";

/// An answer of one request, with its HTTP status.
type Answer = (u16, String);

/// Gives these answers in their order, and then none any more. What was asked is noted: `list`, `look` for the version alone, or `watch` and from where.
struct Scripted {
    asked: Mutex<Vec<String>>,
    answers: Mutex<VecDeque<Answer>>,
}

impl Scripted {
    async fn serve(answers: impl IntoIterator<Item = Answer>) -> (Arc<Self>, Caller) {
        let answers = Mutex::new(answers.into_iter().collect());
        let scripted = Arc::new(Self { asked: Mutex::default(), answers });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let client = kube::Client::try_from(kube::Config::new(url)).unwrap();
        let serving = Arc::clone(&scripted);
        tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok((connection, _)) = listener.accept().await {
                kept.extend(serving.answer(connection).await); // A watch that brings nothing more.
            }
        });
        (scripted, Caller::new(client, Limiter::default()))
    }

    /// One request a connection. It is given back if there is no answer.
    async fn answer(&self, mut connection: TcpStream) -> Option<TcpStream> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(connection.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap();
        if head.contains(GONE) {
            connection.write_all(b"HTTP/1.1 404 X\r\nconnection: close\r\n\r\nno such version").await.unwrap();
            return None;
        }
        let query: Vec<&str> = head.split_whitespace().nth(1).unwrap().split(['?', '&']).skip(1).collect();
        let from = query.iter().find_map(|pair| pair.strip_prefix("resourceVersion="));
        let asked = match () {
            () if query.contains(&"watch=true") => format!("watch {}", from.unwrap()),
            () if query.contains(&"limit=1") => "look".to_owned(),
            () if query.is_empty() => "discover".to_owned(),
            () => "list".to_owned(),
        };
        self.asked.lock().unwrap().push(asked);
        let Some((code, body)) = self.answers.lock().unwrap().pop_front() else { return Some(connection) };
        let head = format!("HTTP/1.1 {code} X\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n");
        connection.write_all((head + &body).as_bytes()).await.unwrap();
        None
    }
}

/// Waits until all of this was asked, and nothing else.
async fn asks(scripted: &Scripted, asked: &[&str]) {
    let all = tokio::time::timeout(SOON, async {
        while scripted.asked.lock().unwrap().len() < asked.len() {
            sleep(Duration::from_millis(10)).await;
        }
    });
    all.await.unwrap_or_else(|_| panic!("{:?}", scripted.asked.lock().unwrap()));
    assert_eq!(*scripted.asked.lock().unwrap(), asked);
}

/// The inventory of ConfigMaps, followed by the environment `dev`.
fn watching(caller: Caller) -> Inventory {
    let kind = GroupKind::new("", "ConfigMap");
    let inventory = Inventory::new(caller);
    let _ = inventory.follow(&Arc::from("dev"));
    inventory.ensure([(&kind, Kinds::builtin().preferred(&kind).unwrap())]);
    inventory
}

fn standing(inventory: &Inventory) -> Vec<(String, ResourceVersion)> {
    inventory.with_members("dev", |members| {
        let mut standing: Vec<_> =
            members.iter().map(|(key, live)| (key.name.to_string(), live.resource_version)).collect();
        standing.sort_unstable();
        standing
    })
}

fn changed(inventory: &Inventory) -> Vec<String> {
    let mut changed: Vec<String> = inventory.take_changed("dev").into_keys().map(|key| key.name.to_string()).collect();
    changed.sort_unstable();
    changed
}

fn object(name: &str, version: &str) -> Value {
    let metadata = json!({
        "name": name, "namespace": "n", "uid": name, "resourceVersion": version, "labels": {PART_OF: "dev"},
    });
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata})
}

fn listed(version: &str, items: &[Value]) -> Answer {
    let list = json!({
        "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
        "metadata": {"resourceVersion": version}, "items": items,
    });
    (200, list.to_string())
}

fn events(events: &[(&str, Value)]) -> Answer {
    let line = |(type_, object): &(&str, Value)| json!({"type": type_, "object": object}).to_string() + "\n";
    (200, events.iter().map(line).collect())
}

fn expired() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "code": 410, "reason": "Expired",
        "message": "too old resource version",
    })
}

#[tokio::test]
async fn nothing_is_missed_over_dropped_connections_bookmarks_and_histories_that_are_gone() {
    let (scripted, caller) = Scripted::serve([
        listed("10", &[object("a", "1"), object("b", "2")]),
        // The connection ends after a bookmark: it is taken up again from there.
        events(&[("MODIFIED", object("b", "11")), ("BOOKMARK", object("", "20"))]),
        // Gone in the middle of a stream. Until the list `a` was deleted and `c` made.
        events(&[("ERROR", expired())]),
        listed("30", &[object("b", "11"), object("c", "25")]),
        events(&[("DELETED", object("c", "31"))]),
        // Gone as the answer itself. Until the list `b` was changed and `d` made.
        (410, expired().to_string()),
        listed("40", &[object("b", "35"), object("d", "36")]),
    ])
    .await;
    let inventory = watching(caller);
    asks(&scripted, &["list", "watch 10", "watch 20", "list", "watch 30", "watch 31", "list", "watch 40"]).await;
    assert_eq!(standing(&inventory), [("b".to_owned(), 35), ("d".to_owned(), 36)]);
    assert_eq!(changed(&inventory), ["a", "b", "c", "d"], "who came, changed and went");
    inventory.stop();
}

/// A restored etcd begins anew from an older revision: what was made since is gone, and what was changed since is as it was.
#[tokio::test]
async fn what_an_api_server_shows_that_was_set_back_holds() {
    let away = || (500, json!({"apiVersion": "v1", "kind": "Status", "code": 500, "metadata": {}}).to_string());
    let (scripted, caller) = Scripted::serve([
        listed("1100", &[object("a", "900"), object("b", "1000")]),
        events(&[
            ("MODIFIED", object("b", "1150")),
            ("ADDED", object("phantom", "1160")),
            ("BOOKMARK", object("", "1200")),
        ]),
        // Any interruption: it is looked how far the server is, and gone on from there.
        away(),
        listed("1200", &[]),
        events(&[("BOOKMARK", object("", "1210"))]),
        away(),
        away(),
        listed("1005", &[]),
        listed("1006", &[object("a", "900"), object("b", "1000")]),
        events(&[("MODIFIED", object("a", "1007"))]),
    ])
    .await;
    let (inventory, kind) = (watching(caller), GroupKind::new("", "ConfigMap"));
    inventory.wrote(&kind, &serde_json::from_value(object("mine", "1199")).unwrap());
    let asked =
        ["list", "watch 1100", "watch 1200", "look", "watch 1200", "watch 1210", "look", "look", "list", "watch 1006"];
    asks(&scripted, &[&asked[..], &["watch 1007"]].concat()).await;
    assert_eq!(standing(&inventory), [("a".to_owned(), 1007), ("b".to_owned(), 1000)]);
    assert_eq!(changed(&inventory), ["a", "b", "mine", "phantom"]);
    // What was written before is not waited for: nobody will ever deliver it.
    inventory.caught_up(&[kind].into(), SOON).await.unwrap();
    inventory.stop();
}

#[tokio::test]
async fn a_watch_in_vain_gives_way_to_one_of_another_version() {
    let (scripted, caller) = Scripted::serve([listed("5", &[])]).await;
    let (kind, inventory) = (GroupKind::new("example.org", "Widget"), Inventory::new(caller));
    let kinds = [kind.clone()].into();
    let ensure = |version: &str| {
        let info = KindInfo { version: version.into(), plural: "widgets".into(), namespaced: true };
        inventory.ensure([(&kind, &info)]);
    };
    ensure(GONE);
    let error = inventory.listed(&kinds, Duration::from_secs(1)).await.unwrap_err().to_string();
    assert!(error.contains("Widget.example.org") && error.contains("404"), "{error}");
    ensure(GONE);
    ensure("v1");
    inventory.listed(&kinds, SOON).await.unwrap();
    // Somebody who has not heard of it yet does not bring it back.
    ensure(GONE);
    asks(&scripted, &["list", "watch 5"]).await;
    inventory.stop();
}

/// A kind that is watched in a version that was there, and what its group says when that is gone.
async fn watching_in_a_version_that_goes(answers: Vec<Answer>) -> (Arc<Scripted>, Inventory) {
    let gone = || (404, json!({"apiVersion": "v1", "kind": "Status", "code": 404, "metadata": {}}).to_string());
    let first = [listed("5", &[object("a", "3"), object("b", "4")]), gone()];
    let (scripted, caller) = Scripted::serve(first.into_iter().chain(answers)).await;
    let (kind, inventory) = (GroupKind::new("example.org", "Widget"), Inventory::new(caller));
    let _ = inventory.follow(&Arc::from("dev"));
    let info = KindInfo { version: "v1alpha1".into(), plural: "widgets".into(), namespaced: true };
    inventory.ensure([(&kind, &info)]);
    inventory.listed(&[kind].into(), SOON).await.unwrap();
    assert_eq!(changed(&inventory), ["a", "b"]);
    (scripted, inventory)
}

fn versions(versions: &[&str]) -> Answer {
    let versions: Vec<Value> =
        versions.iter().map(|name| json!({"groupVersion": format!("example.org/{name}"), "version": name})).collect();
    (200, json!({"kind": "APIGroup", "apiVersion": "v1", "name": "example.org", "versions": versions}).to_string())
}

fn resources(version: &str) -> Answer {
    let widgets =
        json!({"name": "widgets", "singularName": "widget", "namespaced": true, "kind": "Widget", "verbs": []});
    let list = json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("example.org/{version}"), "resources": [widgets],
    });
    (200, list.to_string())
}

#[tokio::test]
async fn a_version_that_goes_takes_no_objects_with_it() {
    let (scripted, inventory) = watching_in_a_version_that_goes(vec![
        // The API server's list of versions may lag behind.
        versions(&["v1alpha1", "v1"]),
        resources("v1alpha1"),
        resources("v1"),
        listed("9", &[object("a", "3")]),
    ])
    .await;
    asks(&scripted, &["list", "watch 5", "discover", "discover", "discover", "list", "watch 9"]).await;
    assert_eq!(standing(&inventory), [("a".to_owned(), 3)]);
    assert_eq!(changed(&inventory), ["b"], "which was deleted meanwhile");
    inventory.stop();
}

#[tokio::test]
async fn a_definition_that_goes_takes_its_objects_with_it() {
    let none = (404, json!({"apiVersion": "v1", "kind": "Status", "code": 404, "metadata": {}}).to_string());
    for answers in [vec![none.clone()], vec![versions(&["v1alpha1"]), none]] {
        let discovered = vec!["discover"; answers.len()];
        let (scripted, inventory) = watching_in_a_version_that_goes(answers).await;
        asks(&scripted, &[&["list", "watch 5"][..], &discovered].concat()).await;
        let gone = tokio::time::timeout(SOON, async {
            while !standing(&inventory).is_empty() {
                sleep(Duration::from_millis(10)).await;
            }
        });
        gone.await.unwrap();
        assert_eq!(changed(&inventory), ["a", "b"]);
        inventory.stop();
    }
}
