#!/usr/bin/env bash
# What `control-plane` and `node` share: certificates, the programs of a control plane, a directory that is swept when
# its run was killed, and commands on standard input. To be sourced.
#
# The functions work on these: `here` (this folder), `dir` and `lock` (the run's directory, and the descriptor that
# holds its lock), `bin` (the programs), `pids`.
# shellcheck disable=SC2154  # which the scripts that source this set

say() { printf 'cluster: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

ready_within=150 # seconds; about 3 are usual on an idle machine
apiserver_flags=()
build_rows=() # of this script's programs

# These give up when what they need is away for long, and count on being started again, as a kubelet or systemd does.
started_again=(kube-controller-manager)

# --- certificates -------------------------------------------------------------------------------------------

# certificate DIR NAME SUBJECT [EXTENSION...]: a key and a certificate signed by DIR's CA.
certificate() {
  local pki=$1/pki name=$2 subject=$3 extension args=()
  shift 3
  for extension in "$@"; do args+=(-addext "$extension"); done
  openssl req -x509 -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
    -days 30 -subj "$subject" -addext basicConstraints=critical,CA:FALSE "${args[@]}" \
    -keyout "$pki/$name.key" -out "$pki/$name.crt" 2>"$pki/openssl.log" || fail "openssl: $(cat "$pki/openssl.log")"
}

# kubeconfig DIR NAME SUBJECT FILE: a kubeconfig with a fresh client certificate inside, complete in one file.
kubeconfig() {
  local dir=$1 name=$2 subject=$3 file=$4
  certificate "$dir" "$name" "$subject" extendedKeyUsage=clientAuth
  cat >"$file.new" <<YAML
apiVersion: v1
kind: Config
clusters:
  - name: plumb-test
    cluster:
      server: https://$(cat "$dir/endpoint")
      certificate-authority-data: $(base64 -w0 "$dir/pki/ca.crt")
users:
  - name: $name
    user:
      client-certificate-data: $(base64 -w0 "$dir/pki/$name.crt")
      client-key-data: $(base64 -w0 "$dir/pki/$name.key")
contexts:
  - name: $name
    context: {cluster: plumb-test, user: $name}
current-context: $name
YAML
  mv "$file.new" "$file"
}

# user DIR NAME [GROUP...]: prints the path of the new user's kubeconfig.
user() {
  local dir=$1 name=$2 group subject=''
  shift 2
  for group in "$name" "$@"; do
    [[ $group =~ ^[A-Za-z0-9:._-]+$ ]] || fail "not a user or group name that can be put into a certificate: '$group'"
  done
  for group in "$@"; do subject+="/O=$group"; done
  kubeconfig "$dir" "user-$name" "$subject/CN=$name" "$dir/$name.kubeconfig"
  printf '%s\n' "$dir/$name.kubeconfig"
}

# make_pki DIR ADDRESS...: the CA, the key of service accounts, and the API server's certificate for these addresses.
make_pki() {
  local pki=$1/pki names=DNS:localhost,DNS:kubernetes.default.svc,IP:10.96.0.1 address
  mkdir "$pki"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=plumb-test-ca \
    -keyout "$pki/ca.key" -out "$pki/ca.crt" 2>"$pki/openssl.log" || fail "openssl: $(cat "$pki/openssl.log")"
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out "$pki/service-account.key"
  openssl pkey -in "$pki/service-account.key" -pubout -out "$pki/service-account.pub"
  for address in "${@:2}"; do names+=,IP:$address; done
  certificate "$1" apiserver /CN=kube-apiserver extendedKeyUsage=serverAuth "subjectAltName=$names"
}

# --- programs -----------------------------------------------------------------------------------------------

declare -A pids=() # of the children that should be running, by program

# spawn PROGRAM ARGUMENT...: of ours, or else of PATH. The kernel kills it when this shell ends, however it ends.
spawn() {
  local program=$1 path=$1
  shift
  [ ! -x "$bin/$program" ] || path=$bin/$program
  # No child may hold the directory's lock, our standard input or our standard output.
  setpriv --pdeathsig KILL -- "$path" "$@" </dev/null >>"$dir/$program.log" 2>&1 {lock}>&- &
  pids[$program]=$!
}

start_etcd() {
  # A socket for the clients and a peer port that the kernel picks, as Kubernetes' own integration tests have it
  # (test/integration/framework/etcd.go): etcd needs no port to be found for it. Its data need not outlive a crash.
  spawn etcd --data-dir "$dir/etcd" --unsafe-no-fsync --log-level warn --quota-backend-bytes 8589934592 \
    --listen-client-urls "unix://$dir/etcd.sock" --advertise-client-urls http://127.0.0.111:0 \
    --listen-peer-urls http://127.0.0.1:0
}

# Where the API server listens is DIR/endpoint; further flags are in `apiserver_flags`.
start_kube-apiserver() {
  local pki=$dir/pki endpoint
  endpoint=$(cat "$dir/endpoint")
  spawn kube-apiserver --etcd-servers "unix://$dir/etcd.sock" \
    --advertise-address "${endpoint%:*}" --secure-port "${endpoint##*:}" "${apiserver_flags[@]}" \
    --tls-cert-file "$pki/apiserver.crt" --tls-private-key-file "$pki/apiserver.key" --client-ca-file "$pki/ca.crt" \
    --authorization-mode Node,RBAC --allow-privileged=true --service-cluster-ip-range 10.96.0.0/16 \
    --service-account-issuer https://kubernetes.default.svc \
    --service-account-key-file "$pki/service-account.pub" --service-account-signing-key-file "$pki/service-account.key" \
    --audit-policy-file "$here/audit-policy.yaml" --audit-log-path "$dir/audit.log" --audit-log-format json \
    --audit-log-mode blocking --audit-log-maxsize 1000000
}

start_kube-controller-manager() {
  # Each controller as its own service account, or RBAC forbids it its work.
  spawn kube-controller-manager --kubeconfig "$dir/kube-controller-manager.kubeconfig" --leader-elect=false --secure-port 0 \
    --use-service-account-credentials=true --service-account-private-key-file "$dir/pki/service-account.key" \
    --root-ca-file "$dir/pki/ca.crt"
}

running() { [ -n "${pids[$1]:-}" ] && kill -0 "${pids[$1]}" 2>/dev/null; }

# Members of this group may do everything, but by RBAC, as a cluster's own users.
bind_admins() {
  "$bin/kubectl" --kubeconfig "$dir/admin.kubeconfig" create clusterrolebinding plumb-admins \
    --clusterrole=cluster-admin --group=plumb-admins >/dev/null
}

# component PROGRAM [SUBJECT]: starts a program that is the API server's client, with a kubeconfig DIR/PROGRAM.kubeconfig.
component() {
  kubeconfig "$dir" "$1" "${2:-/CN=system:$1}" "$dir/$1.kubeconfig"
  "start_$1"
}

is_ready_kube-apiserver() {
  "$bin/kubectl" --kubeconfig "$dir/admin.kubeconfig" --request-timeout 5s get --raw /readyz </dev/null >/dev/null 2>&1
}

# await PROGRAM [NEEDED...]: waits until it is ready; fails when one of them ended or the time is over.
await() {
  local until=$((SECONDS + ready_within)) program
  until "is_ready_$1"; do
    for program in "$@"; do running "$program" || return 1; done
    [ $SECONDS -lt $until ] || return 1
    moment
  done
}

# Waits a moment; ends the run if its input has ended, since a parent may die while the API server starts.
moment() {
  local status=0 line
  read -r -t 0.1 line || status=$?
  if [ $status -eq 0 ]; then
    printf 'error not ready for: %s\n' "$line"
  elif [ $status -le 128 ]; then # the end; above 128 is the time-out
    exit 1
  fi
}

# --- a run ---------------------------------------------------------------------------------------------------

# sweep KIND: removes what runs that were killed with SIGKILL left behind: directories whose lock nobody holds.
sweep() {
  local left
  for left in "${TMPDIR:-/tmp}/plumb-$1".*/; do
    # Opened without making it, and held until all is gone: another run may sweep at the same time.
    [ ! -O "$left/lock" ] || (exec <"$left/lock" && flock -n 0 && rm -rf --one-file-system "$left") 2>/dev/null || true
  done
}

# make_directory KIND: makes the directory (`dir`, if it is set), and holds its lock for as long as this process lives.
make_directory() {
  umask 077
  if [ -n "$dir" ]; then mkdir -p "$dir"; else dir=$(mktemp -d "${TMPDIR:-/tmp}/plumb-$1.XXXXXX"); fi
  # A socket's path has at most 107 bytes.
  [ ${#dir} -le 90 ] || fail "the path is too long for a socket in it, set TMPDIR: $dir"
  # The lock is taken before it gets the name that sweep looks for.
  exec {lock}>"$dir/lock.new"
  flock -n "$lock"
  mv "$dir/lock.new" "$dir/lock"
}

# begin KIND UNTIL_EOF: sweeps, makes the directory, and sees to it that `clean_up` ends the run. Commands come from
# standard input, or else from a pipe that never ends.
begin() {
  sweep "$1"
  make_directory "$1"
  trap clean_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP PIPE
  printf '%s\n' $$ >"$dir/pid"
  if [ -z "$2" ]; then
    mkfifo "$dir/commands"
    exec 0<>"$dir/commands" # open both ways
  fi
}

# One command. Sets `answer`; fails if it could not be done.
command_line() {
  local verb=${1:-} program=${2:-}
  answer=''
  case $verb in
    user)
      answer=$(user "$dir" "${@:2}" 2>&1)
      return
      ;;
    stop | start | pause | resume)
      if [ -z "${pids[$program]+known}" ]; then
        answer="no program '$program' here; there are: ${!pids[*]}"
        return 1
      fi
      ;;
  esac
  case $verb in
    stop)
      running "$program" && kill -KILL "${pids[$program]}"
      { wait "${pids[$program]}"; } 2>/dev/null
      pids[$program]='' # not expected to run
      ;;
    pause) running "$program" && kill -STOP "${pids[$program]}" ;;
    resume) running "$program" && kill -CONT "${pids[$program]}" ;;
    start)
      if running "$program"; then answer="$program is running" && return 1; fi
      "start_$program"
      # Of the others only the API server tells whether they are well.
      declare -F "is_ready_$program" >/dev/null || program=kube-apiserver
      # An API server that is slow to begin ends by itself, and counts on being started again.
      await "$program" || { ! running "$program" && "start_$program" && await "$program"; } ||
        { answer="$program is not ready" && return 1; }
      ;;
    *) answer="no command '$verb'" && return 1 ;;
  esac
  return 0
}

# Takes commands until the input ends; fails when a program ends by itself that is not to be started again.
serve_commands() {
  local line='' part words program answer status
  while true; do
    status=0
    read -r -t 1 part || status=$?
    line+=$part # also when the time was over: what had come until then is in it
    if [ $status -eq 0 ]; then
      read -r -a words <<<"$line"
      line=''
      if command_line "${words[@]}"; then printf 'ok %s\n' "$answer"; else printf 'error %s\n' "$answer"; fi
    elif [ $status -le 128 ]; then # the end, as in moment()
      return
    fi
    for program in "${!pids[@]}"; do
      if [ -z "${pids[$program]}" ] || running "$program"; then continue; fi
      if [[ " ${started_again[*]} " == *" $program "* ]]; then "start_$program" && continue; fi
      fail "$program ended by itself, and so does this cluster: $(tail -n 5 "$dir/$program.log")"
    done
  done
}

# --- up, down -----------------------------------------------------------------------------------------------

is_up() { [ -e "$1/lock" ] && ! flock -n "$1/lock" true; }

# up DIR TARGET [ARGUMENT...]: `run ARGUMENT...` in the background; `make TARGET` is how to end it.
up() {
  local dir=$1 target=$2 pid
  shift 2
  if ! is_up "$dir"; then
    "$here/build" "${build_rows[@]}" >/dev/null # first, since it may take minutes
    rm -rf "$dir"
    mkdir -p "$(dirname "$dir")"
    setsid "$0" run --dir "$dir" "$@" </dev/null >"$dir.log" 2>&1 &
    pid=$!
    until [ -e "$dir/ready" ]; do
      kill -0 "$pid" 2>/dev/null || fail "it did not start: $(cat "$dir.log")"
      sleep 0.1
    done
  fi
  say "up; end it with 'make $target'"
  printf 'export KUBECONFIG=%q\n' "$dir/admin.kubeconfig"
}

down() {
  local dir=$1 pid
  if ! is_up "$dir"; then say "is not up" && return; fi
  pid=$(cat "$dir/pid")
  kill -TERM "$pid"
  while kill -0 "$pid" 2>/dev/null; do
    [ $SECONDS -lt 30 ] || fail "process $pid does not end"
    sleep 0.1
  done
  say "is down"
}
