#!/usr/bin/env bash
# Where `pods` runs by default: a node of its own with a PostgreSQL beside it. To be sourced.
# shellcheck disable=SC2034,SC2154  # which `pods` uses or sets

# Sets `address`, where NodePorts answer, `builder`, the arguments of plumb, `database`, where the pods find PostgreSQL, and `model`, where
# they find the scripted model (empty if they can't), and `tools`, the directories of plumb and kubectl.
start_cluster() {
  echo "building the local Kubernetes (the first time takes some minutes)"
  local bin
  bin=$(tests/cluster/node build --dns)
  export PATH="$bin:$PATH" tools=$target:$bin
  say "a Kubernetes node with containerd and BuildKit, shaped like Minikube's, and a PostgreSQL beside it"
  beside node tests/cluster/node run --until-eof --dns --internet --dir "$work/node"
  address=$(cat "$work/node/address") database=host.minikube.internal
  beside postgres tests/cluster/postgres "${address%.2}.1" development-only todo_dev todo_staging
  echo "building the scripted model (the first time takes some minutes)"
  beside model tests/demo/model "${address%.2}.1:8002" "$model_key"
  model=http://$database:8002/v1
  export KUBECONFIG=$work/node/admin.kubeconfig
  builder="--builder unix://$work/node/run/buildkit/buildkitd.sock --containerd unix://$work/node/run/containerd/containerd.sock"
}

# What it started ends with its standard input, which `pods` closes.
end_cluster() { :; }

# prepare_images REVISION: images that were built before are there: the rest is compiled on the node, which takes minutes.
has_rust=
prepare_images() {
  local missing told
  told=$(plumb build dev --at "$1" --dry-run -o json --repo "$work/repo.git")
  mapfile -t images < <(sed -nE 's/.*"image": "(.*)",?/\1/p' <<<"$told")
  missing=$("$root/tests/cluster/image-cache" import "$work/node" "${images[@]}")
  if [ -z "$missing" ]; then
    echo "(images that were built on this machine before are brought; they are the same for the same content)"
  elif [ -z "$has_rust" ]; then
    "$root/tests/cluster/rust" "$work/node"
    has_rust=yes
  fi
}

keep_images() { "$root/tests/cluster/image-cache" export "$work/node" "${images[@]}" >/dev/null; }
