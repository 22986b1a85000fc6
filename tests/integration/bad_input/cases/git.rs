//! What git can hold that no manifest is: links, submodules, names and bytes that are no text.

use git2::{FileMode, ObjectType, Oid};

use super::super::case::{Case, plain};
use crate::harness::{Change, ScratchRepository};

pub fn cases() -> Vec<Case> {
    vec![
        plain("missing-path")
            .remove("deploy")
            .fails("render", &["\"deploy\"", "spec.path", "not in this commit", "add it to the branch"]),
        plain("empty-render")
            .remove("deploy/settings.yaml")
            .remove("deploy/web.yaml")
            .remove("deploy/credentials.yaml")
            .write("deploy/README.md", "nothing yet\n")
            .fails("render", &["\"deploy\" renders to no object", "nothing is pruned", "spec.allow.empty"]),
        plain("comments-alone")
            .write("deploy/settings.yaml", "# nothing yet\n---\n# nothing here\n")
            .remove("deploy/web.yaml")
            .remove("deploy/credentials.yaml")
            .fails("render", &["\"deploy\" renders to no object", "spec.allow.empty"]),
        plain("symlink-out")
            .change("deploy/passwd.yaml", Change::Link("../../../../../etc/passwd".into()))
            .fails("render", &["deploy/passwd.yaml", "symbolic link", "put the file itself there"]),
        plain("symlink-absolute")
            .change("deploy/passwd.yaml", Change::Link("/etc/passwd".into()))
            .fails("render", &["deploy/passwd.yaml", "symbolic link", "put the file itself there"]),
        plain("symlink-to-directory")
            .change("deploy/all", Change::Link("..".into()))
            .fails("render", &["deploy/all", "symbolic link", "put the file itself there"]),
        plain("symlink-loop")
            .change("deploy/loop.yaml", Change::Link("loop.yaml".into()))
            .fails("render", &["deploy/loop.yaml", "symbolic link"]),
        plain("submodule")
            .made("deploy/library", |_| Change::Object(Oid::from_bytes(&[7; 20]).unwrap(), FileMode::Commit))
            .fails("render", &["deploy/library", "submodule", "put the file itself there"]),
        plain("dot-dot-in-a-tree")
            .made("deploy/inner", |repository| hostile_tree(repository, b".."))
            .fails("render", &["deploy/inner/..", "would leave its directory"]),
        plain("slash-in-a-name")
            .made("deploy/inner", |repository| hostile_tree(repository, b"a/../../b.yaml"))
            .fails("render", &["deploy/inner/a/../../b.yaml", "would leave its directory"]),
        plain("name-not-utf8")
            .change(b"deploy/caf\xe9.yaml", Change::from("{}"))
            .fails("render", &["deploy/caf", "is not UTF-8", "rename the file"]),
        plain("content-not-utf8")
            .change("deploy/bad.yaml", Change::Write(b"kind: ConfigMap\nname: caf\xe9\n".to_vec()))
            .fails("render", &["deploy/bad.yaml:2", "not UTF-8", "must be saved as UTF-8"]),
        plain("utf16")
            .change("deploy/bad.yaml", Change::Write(b"\xff\xfek\0i\0n\0d\0:\0 \0X\0\n\0".to_vec()))
            .fails("render", &["deploy/bad.yaml:1", "must be saved as UTF-8"]),
        plain("nul-bytes")
            .change("deploy/bad.yaml", Change::Write(b"kind: ConfigMap\ndata:\n  a: \"\0\"\n".to_vec()))
            .fails("render", &["deploy/bad.yaml:3", "a NUL byte", "not a text file"]),
        plain("binary")
            .change("deploy/image.yaml", Change::Write((0..=255).cycle().take(70_000).collect()))
            .fails("render", &["deploy/image.yaml:2", "must be saved as UTF-8"]),
    ]
}

/// A directory with an entry of this name, which `git add` would not make: written as bytes.
fn hostile_tree(repository: &ScratchRepository, name: &[u8]) -> Change {
    let repository = repository.open();
    let blob = repository.blob(b"{}").unwrap();
    let entry = [b"100644 ", name, b"\0", blob.as_bytes()].concat();
    let tree = repository.odb().unwrap().write(ObjectType::Tree, &entry).unwrap();
    Change::Object(tree, FileMode::Tree)
}
