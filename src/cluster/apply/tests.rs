use serde_json::json;

use super::*;
use crate::cluster::scripted::manifest;

/// Server-side apply of a deleted object makes it again, unless it is told whose uid it must have.
#[test]
fn what_is_sent_names_the_very_object_where_it_is_known() {
    let object =
        |metadata: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"x": "1"}});
    let manifest = manifest(&object(json!({"name": "a", "namespace": "todo"})));
    assert_eq!(body(&manifest, None).unwrap().get(), manifest.json.get());
    let sent: Value = serde_json::from_str(body(&manifest, Some("8f3")).unwrap().get()).unwrap();
    assert_eq!(sent, object(json!({"name": "a", "namespace": "todo", "uid": "8f3"})));
}
