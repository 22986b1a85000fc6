//! Input made to exhaust whoever reads it.

use super::super::case::{Case, plain};
use crate::harness::Change;

pub fn cases() -> Vec<Case> {
    vec![
        plain("alias-bomb")
            .write("deploy/bomb.yaml", alias_bomb())
            .fails("render", &["deploy/bomb.yaml:", "copied by aliases", "exceeds the limit", "write the values out"]),
        plain("merge-bomb")
            .write("deploy/bomb.yaml", merge_bomb())
            .fails("render", &["deploy/bomb.yaml:", "exceeds the limit"]),
        plain("documents-100000")
            .write("deploy/many.yaml", documents(100_000))
            .fails("render", &["deploy/many.yaml:", "the number of documents", "split the environment"]),
        plain("list-of-100000")
            .write("deploy/many.json", list_of(100_000))
            .fails("render", &["deploy/many.json", "the number of values in one file", "split it"]),
        plain("deep-nesting")
            .write("deploy/deep.yaml", format!("a: {}{}\n", "[".repeat(20_000), "]".repeat(20_000)))
            .fails("render", &["deploy/deep.yaml:1", "exceeds the limit of 100"]),
        plain("deep-nesting-by-indent")
            .write("deploy/deep.yaml", (0..2_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect::<String>())
            .fails("render", &["deploy/deep.yaml:", "exceeds the limit of 100"]),
        plain("deep-nesting-json")
            .write("deploy/deep.json", format!("{}1{}", "{\"a\":".repeat(20_000), "}".repeat(20_000)))
            .fails("render", &["deploy/deep.json:1"]),
        plain("deep-directories")
            .write(&format!("deploy/{}x.yaml", "d/".repeat(80)), "{}")
            .fails("render", &["deploy has more than 64 directories inside each other", "smaller directory"]),
        plain("config-map-of-5-mb").write("deploy/big.yaml", config_map(&"x".repeat(5 << 20))).fails(
            "render",
            &["deploy/big.yaml:1", "ConfigMap/@ENV@/big", "the API server stores at most", "split it"],
        ),
        plain("line-of-20-mb")
            .change("deploy/line.yaml", Change::Write(vec![b'x'; 20 << 20]))
            .fails("render", &["deploy/line.yaml", "20971520 bytes", "the limit for a file"]),
        plain("files-of-70-mb")
            .change("deploy/part-1.yaml", comment_of_14_mb())
            .change("deploy/part-2.yaml", comment_of_14_mb())
            .change("deploy/part-3.yaml", comment_of_14_mb())
            .change("deploy/part-4.yaml", comment_of_14_mb())
            .change("deploy/part-5.yaml", comment_of_14_mb())
            .fails("render", &["deploy/part-5.yaml", "the size of all files", "smaller directory"]),
        plain("values-in-one-document")
            .write("deploy/wide.yaml", format!("a: [{}]\n", "1,".repeat(1_100_000)))
            .fails("render", &["deploy/wide.yaml:1", "the number of values in one file", "split it"]),
        plain("small-mappings")
            .write("deploy/maps.yaml", format!("---\n[{}]\n", "{a: 1},".repeat(40_000)).repeat(10))
            .fails("render", &["deploy/maps.yaml:", "the number of values in one file", "split it"]),
        plain("small-mappings-json")
            .write("deploy/maps.json", format!("[{}1]\n", "{\"a\":1},".repeat(40_000)).repeat(10))
            .fails("render", &["deploy/maps.json:1", "the number of values in one file", "split it"]),
        plain("plumb-yaml-long-paths")
            .write("plumb.yaml", format!("? {}\n: [{}]\n", "k".repeat(1 << 20), "1,".repeat(100_000)))
            .fails("render", &["plumb.yaml:1", "unknown field"]),
        plain("key-of-1-mb")
            .write("deploy/key.yaml", format!("{}: 1\n", "k".repeat(1 << 20)))
            .fails("render", &["deploy/key.yaml:1"]),
        plain("annotations-of-1-mb")
            .write(
                "deploy/notes.yaml",
                format!(
                    "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: notes\n  annotations: {{note: {}}}\n",
                    "x".repeat(1 << 20)
                ),
            )
            .fails(
                "dry-run",
                &["deploy/notes.yaml:1", "ConfigMap/@ENV@/notes", "Too long", "correct the object in git"],
            ),
    ]
}

/// Nine levels of nine aliases each: 3 GB when written out ("billion laughs").
fn alias_bomb() -> String {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
        text += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    text
}

/// The same with merge keys and mappings.
fn merge_bomb() -> String {
    let mut text = "a0: &a0 {x: 1}\n".to_owned();
    for level in 1..40 {
        let last = level - 1;
        text += &format!("a{level}: &a{level} {{l: *a{last}, r: *a{last}, <<: *a{last}}}\n");
    }
    text
}

fn documents(count: usize) -> String {
    let document = |n| format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c{n}}}\n");
    (0..count).map(document).collect()
}

fn list_of(count: usize) -> String {
    let items: Vec<String> = (0..count)
        .map(|n| format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"c{n}"}}}}"#))
        .collect();
    format!(r#"{{"apiVersion":"v1","kind":"List","items":[{}]}}"#, items.join(","))
}

fn config_map(value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: big}}\ndata: {{value: {value}}}\n")
}

fn comment_of_14_mb() -> Change {
    Change::Write([b"# ".as_slice(), &vec![b'x'; 14 << 20], b"\n"].concat())
}
