#!/usr/bin/env bash
# Where `pods` runs with DEMO_CLUSTER=minikube: the Minikube that kubectl's context names, which it leaves as it was, but for images.
# plumb runs on this machine, and builds through plumb's builder in the cluster; PostgreSQL is a pod. To be sourced.
# shellcheck disable=SC2034,SC2154  # which `pods` uses or sets

installed=

# Sets what `start_cluster` of node.bash sets.
start_cluster() {
  [ -z "${MINIKUBE:-}" ] || ln -s "$(realpath "$(command -v "$MINIKUBE")")" "$work/minikube"
  export PATH="$work:$PATH" tools=$target
  profile=$(tests/demo/minikube-profile)
  # Whoever has a plumb there, or the namespaces, would find them changed, and gone at the end.
  local there
  there=$(kubectl get customresourcedefinition/environments.plumb.dev namespace/{plumb,plumb-builder,todo-dev,todo-staging,todo-database} --ignore-not-found --output name)
  [ -z "$there" ] || { printf 'on this Minikube the demo has no place beside what is there; take another profile, or DEMO_CLUSTER=node or control-plane:\n%s\n' "$there" >&2 && exit 1; }
  # kubectl is there already; of Kubernetes nothing is built.
  local bin
  bin=$(tests/cluster/build helm)
  ln -s "$bin/helm" "$work/helm"

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
  kubectl exec --namespace todo-database deployment/postgres -- psql --quiet --username=todo --dbname=todo_dev --command='CREATE DATABASE todo_staging'

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
  start_model
}

# Sets `model`. Pods reach this machine by what Minikube calls host.minikube.internal, if that is this machine, and no firewall is between.
start_model() {
  local host
  model=
  host=$(minikube ssh --profile "$profile" -- "sed -n 's/[[:space:]]*host.minikube.internal.*//p' /etc/hosts" 2>/dev/null | tr -d '\r' | head -n 1) || true
  [[ $host =~ ^[0-9.]+$ && " $(hostname -I 2>/dev/null) " == *" $host "* ]] || return 0
  if (: <"/dev/tcp/$host/8002") 2>/dev/null; then return 0; fi # somebody else's
  echo "building the scripted model (the first time takes some minutes)"
  beside model tests/demo/model "$host:8002" "$model_key"
  # Any answer will do; without one, pods would wait for one too.
  if minikube ssh --profile "$profile" -- "curl --silent --output /dev/null --max-time 5 http://$host:8002/" >/dev/null 2>&1; then
    model=http://$host:8002/v1
  fi
}

end_cluster() {
  [ -n "$installed" ] || return 0
  [ -z "${forward:-}" ] || kill "$forward" 2>/dev/null || true
  echo "removing what the demo made; the images stay on the Minikube"
  kubectl delete namespace todo-dev todo-staging todo-database --ignore-not-found >/dev/null || true
  kubectl delete -k "$work/install" --ignore-not-found >/dev/null || true
}

# What is missing the builder builds, and the Minikube keeps.
prepare_images() { :; }
keep_images() { :; }
