# `make` alone lists the targets: every line `target: ## what it does`.
.DEFAULT_GOAL := help

# Tools that the checks need, built once a machine. The version is part of the path: a new one is built beside the old.
tools := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/plumb/tools
deny_version := 0.20.2
deny := $(tools)/cargo-deny-$(deny_version)/bin/cargo-deny

.PHONY: help build check compile programs unit apps-check apps chart integration readme test test-quick test-nightly bench demo cluster-up cluster-down node-up node-down crd tools screenshot clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build target/release/plumb
	cargo build --locked --release

check: $(deny) ## format, lints, licenses, dependencies, scripts
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	$(deny) --log-level error --locked check bans licenses sources
	@.ci/advisories $(deny) Cargo.toml $(apps)
	@.ci/scripts

compile: ## compile all tests, and run none
	cargo test --locked --no-run
	@for package in $(apps); do \
	  CARGO_TARGET_DIR=$(CURDIR)/target/apps cargo test --locked --no-run --manifest-path "$$package" || exit 1; \
	done

test: ## everything, as the CI runs it: check, apps-check, compile, programs, unit, apps, chart, integration, readme
	@.ci/test

test-quick: unit ## the loop of editing: unit tests alone, no cluster

programs: ## build helm, kubectl, the test cluster and moby's .dockerignore, once a machine; as root also what a whole node needs
	@tests/cluster/build $$(tests/cluster/node possible >/dev/null && echo node)
	@tests/cluster/build dockerignore

# Tests that need helm, kubectl or moby's .dockerignore find what `programs` built; without it they say that they are skipped.
unit: ## tests of the library: pure code, and git repositories in temporary directories
	cargo test --locked --lib

# Each application is a package of its own, as its image is built from its directory alone.
apps := $(wildcard apps/*/Cargo.toml)

apps-check: $(deny) ## the Todo Chatbot's programs: format, lints, licenses, what they share; compose.yaml
	@.ci/compose
	@.ci/apps-shared
	@for package in $(apps); do \
	  echo "== $$package"; \
	  cargo fmt --check --manifest-path "$$package" && \
	  $(deny) --log-level error --locked --manifest-path "$$package" --config apps/deny.toml check bans licenses sources && \
	  CARGO_TARGET_DIR=$(CURDIR)/target/apps cargo clippy --locked --all-targets --manifest-path "$$package" -- -D warnings || exit 1; \
	done

apps: ## tests of the Todo Chatbot's programs, with a PostgreSQL of their own
	@for package in $(apps); do \
	  CARGO_TARGET_DIR=$(CURDIR)/target/apps cargo test --locked --manifest-path "$$package" || exit 1; \
	done
	apps/support/with cargo test --locked --manifest-path apps/frontend/Cargo.toml all_parts_together

chart: ## the Todo Chatbot's chart: helm lint, every switch, the API server's strict dry-run
	tests/cluster/with tests/chart/check

integration: ## tests of the program against a real kube-apiserver and etcd (or PLUMB_TEST_KUBECONFIG), as root on a node, and of the demo
	@if reason=$$(tests/cluster/node possible --docker); then ignored=--include-ignored; \
	else echo "the tests that are reported as ignored are SKIPPED: $$reason"; fi; set -x; \
	cargo test --locked --test integration -- $$ignored --skip pod::own_image::
	PROFILE=dev tests/demo/check

test-nightly: ## 200 random sequences of commits, edits, restarts and outages (PLUMB_SEED repeats one); as root plumb's image from its Dockerfile, the Todo Chatbot's figures
	PLUMB_SEQUENCES=200 cargo test --locked --test integration -- sequences:: --nocapture
	@if reason=$$(tests/cluster/node possible --internet); then set -x; \
	cargo test --locked --test integration -- pod::own_image:: --include-ignored --nocapture; \
	else echo "plumb's own image is SKIPPED: $$reason"; fi
	@if reason=$$(tests/cluster/node possible --internet --docker); then set -x; \
	PLUMB_LOAD=200 PLUMB_LOAD_SECONDS=60 cargo test --locked --test integration -- todo::pushed --include-ignored --nocapture; \
	else echo "the Todo Chatbot's figures are SKIPPED: $$reason"; fi

readme: ## the commands of README.md
	@if [ -x tests/readme/check ]; then tests/readme/check; else echo "README.md has no commands to test yet"; fi

bench: ## measure; writes target/bench/report.json
	cargo bench --locked --bench plumb

demo: ## the Todo Chatbot deployed, used, broken, healed, rolled back, promoted: on the running Minikube, or a local cluster (root: with pods)
	@tests/demo/demo

cluster-up: ## start a local Kubernetes control plane; prints the KUBECONFIG to use
	@tests/cluster/control-plane up

cluster-down: ## end it
	@tests/cluster/control-plane down

node-up: ## start a whole node like Minikube's, with containerd and buildkitd (root); prints the KUBECONFIG to use
	@tests/cluster/node up --registry --dns

node-down: ## end it
	@tests/cluster/node down

crd: ## write deploy/crd.yaml anew from the types in src/model
	@mkdir -p deploy target
	cargo run --quiet --locked -- init --crd > target/crd.yaml
	mv target/crd.yaml deploy/crd.yaml

tools: $(deny) ## build the tools that `make check` needs, once a machine

# Its own release profile optimises the whole program at once, for minutes; what is checked here takes a second either way.
$(deny):
	CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
	  cargo install --locked cargo-deny --version $(deny_version) --root $(tools)/cargo-deny-$(deny_version)

screenshot: ## take docs/todo-chatbot.png anew, from a real run of the Todo Chatbot in Chromium
	@mkdir -p docs
	TODO_PICTURE=$(CURDIR)/docs/todo-chatbot.png apps/support/with \
	  cargo test --locked --manifest-path apps/frontend/Cargo.toml all_parts_together -- --nocapture

clean: ## delete what was built here; the caches in ~/.cache/plumb stay
	cargo clean
