//! Images that can't be built from what the commit holds: found before anything is built, or asked of a builder.

use git2::{FileMode, Oid};

use super::super::case::{Case, plain};
use crate::harness::Change;

const FILE: &str = "plumb.yaml";
const WEB: &str = "images: [{name: web, context: apps/web}]\n";
const DOCKERFILE: &str = "apps/web/Dockerfile";

/// A commit that declares the image `web`, with its Dockerfile.
fn web(name: &'static str, dockerfile: &str) -> Case {
    plain(name).write(FILE, WEB).write(DOCKERFILE, dockerfile)
}

pub fn cases() -> Vec<Case> {
    let submodule = || Change::Object(Oid::from_bytes(&[7; 20]).unwrap(), FileMode::Commit);
    vec![
        plain("image-no-context").write(FILE, WEB).fails("render", &["apps/web", "\"web\"", "is not in this commit"]),
        plain("image-context-a-file")
            .write(FILE, WEB)
            .write("apps/web", "no directory\n")
            .fails("render", &["apps/web", "\"web\"", "is a file"]),
        plain("image-context-outside")
            .write(FILE, "images: [{name: web, context: ../web}]\n")
            .fails("render", &["plumb.yaml", "\"web\"", "\"../web\"", "must not contain '..'"]),
        // A builder would give both names to it: to an image of the branch, and to anybody's.
        plain("image-of-two-names")
            .write(FILE, "images:\n- name: docker.io/library/plumb:0.1.0,docker.io/library/web\n  context: apps/web\n")
            .write(DOCKERFILE, "FROM scratch\n")
            .fails(
                "render",
                &["plumb.yaml:2", "docker.io/library/plumb:0.1.0,docker.io/library/web", "is not an image's name"],
            ),
        plain("image-dockerfile-outside")
            .write(FILE, "images: [{name: web, context: apps/web, dockerfile: ../../Dockerfile}]\n")
            .fails("render", &["plumb.yaml", "\"web\"", "\"../../Dockerfile\"", "must not contain '..'"]),
        plain("image-no-dockerfile")
            .write(FILE, WEB)
            .write("apps/web/main.rs", "fn main() {}\n")
            .fails("render", &[DOCKERFILE, "\"web\"", "is not in this commit"]),
        web("image-dockerfile-broken", "RUN make\n").fails("render", &[DOCKERFILE, "line 1", "RUN stands before"]),
        plain("image-of-a-submodule")
            .write(FILE, WEB)
            .change("apps/web", submodule())
            .fails("render", &["apps/web", "is a submodule"]),
        web("image-with-a-submodule", "FROM scratch\n")
            .change("apps/web/library", submodule())
            .fails("render", &["apps/web/library is a submodule", ".dockerignore"]),
        web("image-link-out", "FROM scratch\n")
            .change("apps/web/passwd", Change::Link("../../../etc/passwd".into()))
            .fails("render", &["apps/web/passwd is a symbolic link", "leads out of the context"]),
        web("image-of-itself", "FROM web\n")
            .fails("render", &["plumb.yaml", "based on each other in a circle: web → web"]),
        plain("image-declared-twice")
            .write(FILE, "images: [{name: web, context: apps/web}, {name: web, context: apps/api}]\n")
            .fails("render", &["plumb.yaml", "\"web\"", "declared twice"]),
    ]
}
