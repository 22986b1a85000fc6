#!/usr/bin/env bash
# What `pods` shows, a scene a function, in their order. To be sourced.
# shellcheck disable=SC2154  # which `pods` and what it sources set

open_the_repository() {
  say "a repository on a server: the Todo Chatbot's sources, chart and environments; main holds the definitions, dev is what is deployed"
  make_repository apps plumb.yaml manifests/todo-app environments/dev environments/staging
  if ! grep -q "@$database:" environments/dev/values.yaml; then
    run "sed -i 's/@host.minikube.internal:/@$database:/' environments/dev/values.yaml"
  fi
  if [ -n "$model" ]; then
    say "its chat needs a model: here a server on this machine, that answers by a script"
    run "sed -i 's/openaiApiKey: \"\".*/openaiApiKey: $model_key/' environments/dev/values.yaml"
    run "printf '\nconfig:\n  OPENAI_BASE_URL: $model\n' | tee -a environments/staging/values.yaml >> environments/dev/values.yaml"
  else
    say "its pods can't reach this machine, where a model would be: the chat will say that it isn't set up"
  fi
  git diff --quiet || git commit --quiet --all --message "Where the database and the model are"
  run "git push --quiet origin main"
}

a_push_deploys() {
  say "a push deploys: images are built, the database is migrated, pods come"
  run "git push --quiet origin main:dev"
  until_log "deployed environment=dev" 3600
  until_log "healthy environment=dev" 300
  keep_images
  run "kubectl get environments"
  run "kubectl --namespace todo-dev get pods"
  printf '\n%sThe Todo Chatbot is at %s: open it now, sign up, and watch it while the rest goes on.%s\n' "$bold" "$page" "$plain"
  git checkout --quiet -b dev
}

# The page of whoever signed up, as it lists the tasks. kube-proxy may send a request to a pod that has gone, for a moment.
shows_task() { # shows_task TITLE
  local until=$((SECONDS + 60))
  until curl --silent --max-time 5 --cookie "$work/ada" "$page/" | grep -q "Edit: $1"; do
    [ "$SECONDS" -lt "$until" ] || { echo "the page does not show the task \"$1\"" >&2 && exit 1; }
    sleep 0.2
  done
  run "curl --silent --cookie $work/ada $page/ | grep -o 'Edit: [^\"]*'"
}

# Sends a form. A pod is Ready a moment before kube-proxy sends anybody to it: what came to nothing is sent again.
send() { # send COMMAND CHECK
  local until=$((SECONDS + 60))
  run "$1" || true
  until eval "$2" || [ "$SECONDS" -ge "$until" ]; do
    sleep 1
    eval "$2" || eval "$1" || true
  done
}

a_task_is_added() {
  local signed_in="grep -qs session $work/ada" is_listed="curl --silent --max-time 5 --cookie $work/ada $page/ | grep -c 'Edit: buy milk' >/dev/null"
  say "Ada signs up, and adds a task; a browser sends the same forms"
  send "curl --silent --cookie-jar $work/ada --data 'name=Ada&email=ada@example.org&password=development-only' $page/signup" "$signed_in"
  if [ -n "$model" ]; then
    send "curl --silent --cookie $work/ada --data 'message=add a task: buy milk' $page/chat" "$is_listed"
    run "curl --silent --cookie $work/ada $page/ | grep -o 'Assistant:.*' | sed 's/<[^>]*>/ /g'"
  else
    send "curl --silent --cookie $work/ada --data 'title=buy milk' $page/tasks" "$is_listed"
  fi
  shows_task 'buy milk'
}

pods_go_and_the_task_stays() {
  say "all pods are deleted: others come, and the task is still there"
  run "kubectl --namespace todo-dev delete pods --all"
  run "kubectl --namespace todo-dev wait pods --all --for condition=Ready --timeout 180s"
  shows_task 'buy milk'
}

a_push_scales() {
  say "2 → 3 replicas: a commit and a push, nothing else"
  printf '\nfrontend:\n  replicas: 3\n' >>environments/dev/values.yaml
  run "git commit --quiet --all --message '2 → 3 replicas' && git push --quiet origin dev"
  until_log "deployed environment=dev"
  until_log "healthy environment=dev" 180
  run "kubectl --namespace todo-dev get deployments"
}

what_is_changed_by_hand_is_put_back() {
  say "somebody changes the cluster by hand: plumb says what, who, want and live, and puts it back"
  run "kubectl --namespace todo-dev scale deployment todo-backend --replicas=5"
  until_log " drift .*Deployment/todo-dev/todo-backend .*spec.replicas"
  run "kubectl --namespace todo-dev set resources deployment todo-frontend --limits=memory=1Gi"
  until_log " drift .*Deployment/todo-dev/todo-frontend .*limits.memory"
  run "kubectl --namespace todo-dev patch configmap todo-config --patch '{\"data\":{\"RUST_LOG\":\"trace\"}}'"
  until_log " drift .*ConfigMap/todo-dev/todo-config .*RUST_LOG"
  run "kubectl wait environment/dev --for condition=Healthy --timeout 180s"
}

# limit_rollouts SECONDS: what dev's definition gives one; an empty argument takes that back.
limit_rollouts() {
  git checkout --quiet main
  if [ -n "$1" ]; then
    run "echo '  timeout: $1' >> environments/dev/environment.yaml"
    run "git commit --quiet --all --message 'A rollout has $1' && git push --quiet origin main"
  else
    run "git revert --no-edit HEAD >/dev/null && git push --quiet origin main"
  fi
  git checkout --quiet dev
}

a_broken_migration_fails() {
  say "a rollout has 5 minutes before it counts as failed; 40 seconds are enough to look at. The definition is on main"
  limit_rollouts 40s
  say "a migration that fails: its pods never get ready, the reason has what the init container said, and the old pods serve"
  printf 'ALTER TABLE no_such_table ADD COLUMN x int;\n' >apps/backend/migrations/99990101000000_broken.sql
  run "cat apps/backend/migrations/99990101000000_broken.sql"
  git add --all && git commit --quiet --message "A broken migration" && git push --quiet origin dev:try
  prepare_images try
  run "git push --quiet origin dev"
  until_log "deployed environment=dev" 3600
  keep_images
  until_log "ERROR failed .*stage=health.*no_such_table" 180
  run "kubectl get environments"
  run "kubectl --namespace todo-dev get pods"
  shows_task 'buy milk'
}

# How many images plumb has built, as its log says.
built() { grep -c ' built ' "$work/plumb.log" || true; }

a_rollback_builds_nothing() {
  local before
  before=$(built)
  say "back to what was deployed before: plumb writes the revert onto the branch, and deploys it like any push"
  run "plumb rollback dev --repo $work/repo.git"
  until_log "deployed environment=dev"
  until_log "healthy environment=dev" 180
  [ "$(built)" = "$before" ] || { echo "the roll-back has built an image" >&2 && exit 1; }
  echo "(0 images were built)"
  run "git pull --quiet origin dev"
  limit_rollouts ''
}

staging_gets_what_dev_has() {
  say "dev is promoted to staging, a second namespace. The Secret there is not in git: somebody makes it"
  local url=postgresql://todo:development-only@$database:5432/todo_staging
  run "kubectl create namespace todo-staging"
  run "kubectl --namespace todo-staging create secret generic todo-secrets --from-literal=database-url=$url" \
    "--from-literal=jwt-secret=development-only-signing-key-never-for-production --from-literal=openai-api-key=${model:+$model_key}"
  run "plumb promote dev staging --repo $work/repo.git"
  until_log "deployed environment=staging"
  until_log "healthy environment=staging" 300
  run "kubectl --namespace todo-staging get pods"
  run "curl --silent http://$address:30301/health; echo"
}
