#!/usr/bin/env bash
# Where `pods` runs by default: a node of its own with a PostgreSQL beside it. To be sourced.
# shellcheck disable=SC2034,SC2154  # which `pods` uses or sets

# Sets `address`, where NodePorts answer, `builder`, the arguments of plumb, and `database`, where the pods find PostgreSQL.
start_cluster() {
  echo "building the local Kubernetes (the first time takes some minutes)"
  local bin
  bin=$(tests/cluster/node build --dns)
  export PATH="$bin:$PATH"
  say "a Kubernetes node with containerd and BuildKit, shaped like Minikube's, and a PostgreSQL beside it"
  beside node tests/cluster/node run --until-eof --dns --internet --dir "$work/node"
  address=$(cat "$work/node/address") database=host.minikube.internal
  beside postgres tests/cluster/postgres "${address%.2}.1" development-only todo_dev
  export KUBECONFIG=$work/node/admin.kubeconfig
  builder="--builder unix://$work/node/run/buildkit/buildkitd.sock --containerd unix://$work/node/run/containerd/containerd.sock"
}

# What it started ends with its standard input, which `pods` closes.
end_cluster() { :; }

# Images that were built before are there: the rest is compiled on the node, which takes minutes.
prepare_images() {
  local missing told
  told=$(plumb build dev --at main --dry-run -o json --repo "$work/repo.git")
  mapfile -t images < <(sed -nE 's/.*"image": "(.*)",?/\1/p' <<<"$told")
  missing=$("$root/tests/cluster/image-cache" import "$work/node" "${images[@]}")
  [ -z "$missing" ] || "$root/tests/cluster/rust" "$work/node"
}

keep_images() { "$root/tests/cluster/image-cache" export "$work/node" "${images[@]}" >/dev/null; }
