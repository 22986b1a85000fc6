//! plumb's own files.

use super::super::case::{Case, plain};

pub fn cases() -> Vec<Case> {
    vec![
        plain("unknown-field").definition("branch:", "brunch:").fails(
            "definition",
            &["environments/@ENV@/environment.yaml:6", "unknown field `brunch`", "expected one of"],
        ),
        plain("wrong-type")
            .definition("  path:", "  suspend: perhaps\n  path:")
            .fails("definition", &["environment.yaml:8", "spec.suspend", "expected a boolean"]),
        plain("other-name")
            .definition("name: @ENV@", "name: production")
            .fails("definition", &["environment.yaml:4", "metadata.name", "must be that of the directory"]),
        plain("dot-dot-in-path").definition("path: deploy", "path: ../../etc").fails(
            "definition",
            &["environment.yaml:8", "spec.path", "relative to the repository's root, without '..'"],
        ),
        plain("dot-dot-in-values")
            .definition("path: deploy", "path: deploy\n  values: [deploy/../../secret.yaml]")
            .fails("definition", &["environment.yaml:9", "spec.values[0]", "relative to the repository's root"]),
        plain("absolute-path")
            .definition("path: deploy", "path: /etc/kubernetes/manifests")
            .fails("definition", &["environment.yaml:8", "spec.path", "relative to the repository's root"]),
        plain("no-such-path")
            .definition("path: deploy", "path: deplyo")
            .fails("render", &["\"deplyo\"", "spec.path", "not in this commit", "correct spec.path"]),
        plain("path-is-a-file")
            .definition("path: deploy", "path: deploy/settings.yaml")
            .fails("render", &["\"deploy/settings.yaml\" is not a directory", "give a path relative"]),
        plain("values-without-chart")
            .definition("path: deploy", "path: deploy\n  values: [values.yaml]")
            .fails("render", &["\"deploy\" is not a Helm chart", "remove spec.values"]),
        plain("branch-is-a-flag")
            .definition("branch: @ENV@", "branch: --upload-pack=touch")
            .fails("definition", &["environment.yaml:6", "spec.branch", "not starting with a dash"]),
        plain("branch-is-a-ref")
            .definition("branch: @ENV@", "branch: refs/heads/@ENV@")
            .fails("definition", &["environment.yaml:6", "spec.branch", "without refs/heads/"]),
        plain("blank-service-account")
            .definition("path: deploy", "path: deploy\n  serviceAccount: ''")
            .fails("definition", &["environment.yaml:9", "spec.serviceAccount", "leave it out"]),
        plain("definition-tab")
            .definition("  path: deploy", "\tpath: deploy")
            .fails("definition", &["environment.yaml:7", "found a tab"]),
        plain("definition-twice")
            .definition("  path: deploy", "  path: deploy\n  path: deploy")
            .fails("definition", &["environment.yaml:9", "\"path\" stands twice"]),
        plain("definition-empty").definition("", "").fails("definition", &["environment.yaml:1"]),
        plain("definition-two-documents")
            .definition("path: deploy", "path: deploy\n---\nkind: Environment")
            .fails("definition", &["environment.yaml:", "document"]),
        plain("budget-of-101-percent")
            .definition("path: deploy", "path: deploy\n  prune: {budget: 101%}")
            .fails("definition", &["environment.yaml:9", "spec.prune.budget"]),
        plain("resync-soon")
            .definition("path: deploy", "path: deploy\n  resync: soon")
            .fails("definition", &["environment.yaml:9", "spec.resync"]),
        plain("old-api-version")
            .definition("plumb.dev/v1alpha1", "plumb.dev/v0")
            .fails("definition", &["environment.yaml:1", "apiVersion", "plumb.dev/v1alpha1"]),
        plain("plumb-yaml-broken")
            .write("plumb.yaml", "images: [")
            .fails("render", &["plumb.yaml:1", "not valid YAML"]),
        plain("plumb-yaml-unknown-field")
            .write("plumb.yaml", "images: []\nimagez: []\n")
            .fails("render", &["plumb.yaml:2", "unknown field `imagez`", "expected"]),
        plain("plumb-yaml-outside")
            .write("plumb.yaml", "images: [{name: a, context: ../..}]\n")
            .fails("render", &["plumb.yaml", "context"]),
        plain("plumb-yaml-name-twice")
            .write("plumb.yaml", "images: [{name: a, context: a}, {name: a, context: b}]\n")
            .fails("render", &["plumb.yaml", "\"a\""]),
    ]
}
