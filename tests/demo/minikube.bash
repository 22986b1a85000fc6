#!/usr/bin/env bash
# Where `pods` runs with DEMO_CLUSTER=minikube: the Minikube that kubectl's context names, which it leaves as it was, but for images.
# plumb runs on this machine, and builds through plumb's builder in the cluster; PostgreSQL is a pod. To be sourced.
# shellcheck disable=SC2034,SC2154  # which `pods` uses or sets

installed=

# Sets what `start_cluster` of node.bash sets.
start_cluster() {
  profile=$(kubectl config current-context) || exit
  minikube status --profile "$profile" >/dev/null || {
    echo "kubectl's context \"$profile\" is no Minikube that runs: minikube start --container-runtime=containerd" >&2
    exit 1
  }
  # Whoever has a plumb there, or the namespaces, would find them changed, and gone at the end.
  local there
  there=$(kubectl get customresourcedefinition/environments.plumb.dev namespace/{plumb,plumb-builder,todo-dev,todo-database} --ignore-not-found --output name)
  [ -z "$there" ] || { printf 'on this Minikube the demo has no place beside what is there; take another profile:\n%s\n' "$there" >&2 && exit 1; }
  # kubectl is there already; of Kubernetes nothing is built.
  local bin
  bin=$(tests/cluster/build helm)
  ln -s "$bin/helm" "$work/helm" && export PATH="$work:$PATH"

  local version
  version=$(sed -n 's/^ *newTag: //p' "$root/deploy/kustomization.yaml")
  if grep -qE "(^|/)plumb:$version\$" <<<"$(minikube image ls --profile "$profile")"; then
    say "the Minikube has plumb:$version already; \`minikube image rm --profile $profile plumb:$version\` has it built anew from this checkout"
  else
    say "plumb's image, built on the Minikube from this checkout, which takes minutes"
    run "minikube image build --profile $profile -t plumb:$version ."
  fi

  say "plumb's builder in the cluster; plumb itself runs here, where its log can be seen, so there is no pod of it"
  mkdir "$work/install" && cp -r "$root/deploy" "$work/install/"
  local components=''
  case $(kubectl get nodes --output 'jsonpath={.items[*].status.nodeInfo.containerRuntimeVersion}') in
    docker:*) components='components: [deploy/docker]' ;;
  esac
  printf '%s\n' 'resources: [deploy]' ${components:+"$components"} 'replicas: [{name: plumb, count: 0}]' >"$work/install/kustomization.yaml"
  run "cat $work/install/kustomization.yaml"
  installed=yes
  run "kubectl apply -k $work/install >/dev/null"
  run "kubectl apply -f tests/demo/postgres.yaml"
  run "kubectl rollout status --namespace plumb-builder deployment/plumb-builder --timeout 120s"
  run "kubectl rollout status --namespace todo-database deployment/postgres --timeout 300s"

  (umask 077 && kubectl create token plumb --namespace plumb --audience plumb-builder --duration 4h >"$work/token")
  : >"$work/forward.out"
  kubectl port-forward --namespace plumb-builder service/plumb-builder :8090 >>"$work/forward.out" &
  forward=$!
  local port=
  until port=$(sed -nE 's/^Forwarding from 127\.0\.0\.1:([0-9]+) .*/\1/p' "$work/forward.out") && [ -n "$port" ]; do
    kill -0 "$forward" 2>/dev/null || { echo "the builder's port can't be forwarded" >&2 && exit 1; }
    sleep 0.1
  done
  builder="--builder http://127.0.0.1:$port --builder-token-file $work/token"
  address=$(minikube ip --profile "$profile") database=postgres.todo-database
}

end_cluster() {
  [ -n "$installed" ] || return 0
  [ -z "${forward:-}" ] || kill "$forward" 2>/dev/null || true
  echo "removing what the demo made; the images stay on the Minikube"
  kubectl delete namespace todo-dev todo-database --ignore-not-found >/dev/null || true
  kubectl delete -k "$work/install" --ignore-not-found >/dev/null || true
}

# What is missing the builder builds, and the Minikube keeps.
prepare_images() { :; }
keep_images() { :; }
