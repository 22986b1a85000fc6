#!/usr/bin/env bash
# What the demos share. To be sourced: builds plumb, makes a scratch directory, and says how steps are shown.
# The functions work on these: `root` (the repository), `work` (the scratch directory), `daemon` (the process id of `plumb run`, or empty).
# shellcheck disable=SC2034,SC2154  # which the scripts that source this use or set

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root" || exit
profile=${PROFILE:-release}
case $profile in dev) target=debug ;; *) target=$profile ;; esac
target=$(realpath --canonicalize-missing "${CARGO_TARGET_DIR:-target}/$target")
echo "building plumb (the first time takes some minutes)"
cargo build --locked --profile "$profile" --quiet
work=$(mktemp -d "${TMPDIR:-/tmp}/plumb-demo.XXXXXX")
daemon=
trap 'rm -rf "$work"' EXIT

bold='' dim='' plain=''
if [ -t 1 ]; then
  bold=$(tput bold 2>/dev/null || true) dim=$(tput dim 2>/dev/null || true) plain=$(tput sgr0 2>/dev/null || true)
fi
say() { printf '\n%s# %s%s\n' "$dim" "$*" "$plain"; }
# What is shown has /srv for the scratch directory.
shown() { sed "s#$work#/srv#g"; }
run() {
  printf '%s$ %s%s\n' "$bold" "$*" "$plain" | shown
  { bash -c "$*" 2>&1 || { echo "(exit $?)"; return 1; }; } | shown
}

# show LINE: of plumb's log, of which `seen` lines are shown.
seen=0
show() {
  seen=$((seen + 1))
  cut -d' ' -f2- <<<"$1" | sed 's/^ */  plumb| /' | shown
}

# until_enter: prints what plumb logs, as it comes, until Enter is pressed or the input ends. Nothing runs beside it that would have to be
# killed: a signal right after the fork finds the child with this script's traps, and it does what they say.
until_enter() {
  local line status=0
  until read -r -t 0.2 _ || { status=$? && [ "$status" -le 128 ]; }; do
    while IFS= read -r line; do show "$line"; done < <(tail -n +$((seen + 1)) "$work/plumb.log")
  done
}

# until_log WORD [SECONDS]: prints what plumb logs from here on, as it comes, up to a line that has the word. Fails if none comes, at once
# if plumb has ended, or if a commit has failed for good, unless that is waited for.
until_log() {
  local word=$1 limit=$((SECONDS + ${2:-180})) line ended
  while true; do
    ended='' # asked before the log is read, which then has its last lines
    kill -0 "$daemon" 2>/dev/null || ended=yes
    while IFS= read -r line; do
      show "$line"
      if grep -q "$word" <<<"$line"; then return; fi
      if [[ $line == *'ERROR failed '* && $line != *' retry=true '* ]]; then no_log "$word" 'a commit has failed'; fi
    done < <(tail -n +$((seen + 1)) "$work/plumb.log")
    [ -z "$ended" ] || no_log "$word" 'plumb has ended'
    [ "$SECONDS" -lt "$limit" ] || no_log "$word" 'its time is over'
    sleep 0.1
  done
}
no_log() { # no_log WORD WHY
  echo "the demo waited for \"$1\" in plumb's log; $2" >&2
  exit 1
}

# until_told: until the status has what was pushed from here. It follows the log, and `plumb rollback` reads it.
until_told() {
  kubectl wait environment/dev --for "jsonpath={.status.target}=$(git rev-parse HEAD)" --timeout 180s >/dev/null
}

# start_plumb ARGUMENT...: `plumb run` in the background.
start_plumb() {
  printf '%s$ plumb run %s &%s\n' "$bold" "$*" "$plain" | shown
  # It has a hand on what holds the cluster, so that it must not live on when this script is killed.
  setpriv --pdeathsig KILL -- plumb run "$@" >"$work/plumb.log" 2>&1 &
  daemon=$!
}

stop_plumb() { [ -z "$daemon" ] || { kill "$daemon" 2>/dev/null && wait "$daemon" 2>/dev/null; } || true; }

# plumb writes commits too.
export GIT_AUTHOR_NAME=Ada GIT_AUTHOR_EMAIL=ada@example.org GIT_COMMITTER_NAME=Ada GIT_COMMITTER_EMAIL=ada@example.org

# make_repository PATH...: /srv/repo.git on a server, and the clone /srv/todo with these paths of this repository, not pushed yet.
make_repository() {
  git init --quiet --bare --initial-branch=main "$work/repo.git"
  # For `plumb rollback` in another terminal.
  git -C "$work/repo.git" config user.name "$GIT_AUTHOR_NAME" && git -C "$work/repo.git" config user.email "$GIT_AUTHOR_EMAIL"
  git init --quiet --initial-branch=main "$work/todo"
  (cd "$root" && git ls-files -z --cached --others --exclude-standard -- "$@" | xargs -0 cp --parents --target-directory "$work/todo")
  cd "$work/todo" || exit
  git add --all && git commit --quiet --message "The Todo Chatbot" && git remote add origin "$work/repo.git"
}
