#!/usr/bin/env bash
# Tries the image and the compose file with a real engine: three nodes come up; what is published
# at one is read at another and answers a long poll at the third; the leader is stopped, a write
# goes on, it comes back; in the end all three have the same state.
#
#   deploy/check.sh
#
# Prints PASS, or SKIP and why where no engine can be had (exit 0 both), or FAIL and the logs
# (exit 1). Leaves nothing running: an engine that it started itself is stopped again.
#
# QUORATE_BINARY   a finished binary, instead of building one (deploy/build-image.sh)
set -uo pipefail
cd "$(dirname "$0")"
project=quorate-check-$$
scratch=$(mktemp -d)
engine_pid=
had_bridge=$(ip link show docker0 2>/dev/null)
compose=()
export QUORATE_IMAGE=quorate:check

skip() { echo "SKIP deploy: $*"; exit 0; }
fail() {
  echo "FAIL deploy: $*"
  [ ${#compose[@]} -eq 0 ] || "${compose[@]}" logs --no-color --tail 60 2>&1 | tail -150
  exit 1
}
step() { printf 'deploy: %s\n' "$*"; }

clean_up() {
  [ ${#compose[@]} -eq 0 ] || timeout 90 "${compose[@]}" down --volumes --timeout 5 >/dev/null 2>&1
  if [ -n "$engine_pid" ]; then
    kill "$engine_pid" 2>/dev/null
    for _ in $(seq 50); do kill -0 "$engine_pid" 2>/dev/null || break; sleep 0.2; done
    if kill -0 "$engine_pid" 2>/dev/null; then kill -9 "$engine_pid"; fi
    [ -n "$had_bridge" ] || ip link delete docker0 2>/dev/null
  elif [ ${#compose[@]} -gt 0 ]; then
    docker image rm "$QUORATE_IMAGE" >/dev/null 2>&1
  fi
  rm -rf "$scratch" 2>/dev/null
}
trap clean_up EXIT

# --- an engine and a compose tool ---------------------------------------------------------------

install_packages() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return
  { timeout 120 apt-get update && DEBIAN_FRONTEND=noninteractive timeout 300 \
    apt-get install -y --no-install-recommends docker.io docker-compose; } >"$scratch/apt.log" 2>&1
}

engine_answers() { timeout 10 docker info >/dev/null 2>&1; }

start_engine() {
  [ "$(id -u)" = 0 ] || skip 'no engine answers, and only root can start one'
  # Everything of its own, so that no other engine of this machine is touched.
  export DOCKER_HOST="unix://$scratch/docker.sock"
  dockerd --host "$DOCKER_HOST" --data-root "$scratch/data" --exec-root "$scratch/exec" \
    --pidfile "$scratch/engine.pid" >"$scratch/engine.log" 2>&1 &
  engine_pid=$!
  for _ in $(seq 60); do
    engine_answers && return
    kill -0 "$engine_pid" 2>/dev/null || break
    sleep 0.5
  done
  skip "the engine does not start: $(tail -n 1 "$scratch/engine.log")"
}

have_compose() { docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null; }

command -v curl >/dev/null || skip 'no curl'
if ! command -v docker >/dev/null || ! have_compose ||
  { ! engine_answers && ! command -v dockerd >/dev/null; }; then
  step 'installing an engine'
  install_packages || true
fi
command -v docker >/dev/null || skip 'no docker command, and none can be installed'
have_compose || skip 'no compose tool, and none can be installed'
if ! engine_answers; then
  command -v dockerd >/dev/null || skip 'no engine answers, and there is none to start'
  start_engine
fi
step "engine $(docker version --format '{{.Server.Version}}')"

if docker compose version >/dev/null 2>&1; then compose=(docker compose); else compose=(docker-compose); fi
compose+=(--project-name "$project" --file compose.yaml)

# --- helpers: nodes are called 1, 2, 3 ----------------------------------------------------------

address() { "${compose[@]}" port "node-$1" 8848; }
container() { "${compose[@]}" ps -q "node-$1"; }
nacos() { curl -sS --max-time "${limit:-15}" "$@"; }
state_of() { nacos "http://$(address "$1")/nacos/v1/ns/raft/state"; }
field() { grep -o "\"$1\":[^,}]*" | head -n 1 | cut -d: -f2- | tr -d '"'; }

# Runs a command until it succeeds, for so many seconds.
within() {
  local seconds=$1 end
  shift
  end=$((SECONDS + seconds))
  until "$@" >"$scratch/last" 2>&1; do
    [ "$SECONDS" -lt "$end" ] || { echo "last answer: $(tail -c 300 "$scratch/last")"; return 1; }
    sleep 0.3
  done
}
healthy() { [ "$(docker inspect --format '{{.State.Health.Status}}' "$(container "$1")")" = healthy ]; }
publish() {
  local answer
  answer=$(nacos "http://$(address "$1")/nacos/v1/cs/configs" \
    --data-urlencode dataId=check.properties --data-urlencode group=DEFAULT_GROUP \
    --data-urlencode "content=$2")
  echo "$answer"
  [ "$answer" = true ]
}
reads() {
  local answer
  answer=$(nacos "http://$(address "$1")/nacos/v1/cs/configs?dataId=check.properties&group=DEFAULT_GROUP")
  echo "$answer"
  [ "$answer" = "$2" ]
}
leader() {
  local node
  for node in "$@"; do
    [ "$(state_of "$node" | field role)" = LEADER ] && echo "$node" && return
  done
  return 1
}
agree() {
  local node states
  states=$(for node in 1 2 3; do state_of "$node" | grep -o '"\(revision\|stateHash\)":[^,}]*' | sort | tr '\n' ' '; echo; done)
  echo "$states"
  [ "$(echo "$states" | sort -u | wc -l)" = 1 ] && echo "$states" | grep -q 'stateHash":"[0-9a-f]'
}

# --- the check ----------------------------------------------------------------------------------

./build-image.sh || fail 'the image cannot be built'
# Free ports, so that a running node or another check is not in the way.
export NODE_1_HTTP=0 NODE_2_HTTP=0 NODE_3_HTTP=0 NODE_1_GRPC=0 NODE_2_GRPC=0 NODE_3_GRPC=0
"${compose[@]}" up -d >"$scratch/up.log" 2>&1 || fail "compose up: $(tail -n 3 "$scratch/up.log")"
for node in 1 2 3; do within 60 healthy "$node" || fail "node-$node does not become healthy"; done
step 'three nodes are healthy'

user=$(docker inspect --format '{{.Config.User}}' "$(container 1)")
[ "$user" = 65532:65532 ] || fail "the node runs as $user"
docker exec "$(container 1)" /quorate health --http node-2:8848 2>"$scratch/name" ||
  fail "node-1 does not find node-2 by name: $(cat "$scratch/name")"
if docker exec "$(container 1)" /quorate health --http nowhere.invalid:8848 2>/dev/null; then
  fail 'a name that does not exist resolves'
fi
step 'names resolve inside'

within 10 publish 1 first=1 || fail 'publish at node-1'
within 5 reads 2 first=1 || fail 'read at node-2'
md5=$(printf 'first=1' | md5sum | cut -d ' ' -f 1)
(limit=40 nacos "http://$(address 3)/nacos/v1/cs/configs/listener" -H 'Long-Pulling-Timeout: 30000' \
  --data-urlencode "Listening-Configs=check.properties"$'\002'"DEFAULT_GROUP"$'\002'"$md5"$'\001' \
  >"$scratch/poll") &
poll=$!
sleep 1 # The poll has to be held before the change; it would answer all the same if it were not.
started=$SECONDS
within 10 publish 2 second=2 || fail 'publish at node-2'
wait "$poll" || fail 'the long poll at node-3 broke off'
[ $((SECONDS - started)) -le 5 ] || fail "the long poll took $((SECONDS - started)) s"
grep -q 'check.properties%02DEFAULT_GROUP%01' "$scratch/poll" ||
  fail "the long poll answered '$(cat "$scratch/poll")'"
step 'a long poll at node-3 was answered by a publish at node-2'

old=$(leader 1 2 3) || fail 'nobody leads'
others=$(echo 1 2 3 | tr -d "$old")
stopped=$(container "$old")
"${compose[@]}" stop "node-$old" >/dev/null 2>&1 || fail "stop node-$old"
code=$(docker inspect --format '{{.State.ExitCode}}' "$stopped")
[ "$code" = 0 ] || fail "node-$old exited with $code when it was stopped"
# shellcheck disable=SC2086 # the two numbers are two arguments
survivor=$(set -- $others && echo "$1")
within 15 publish "$survivor" third=3 || fail "publish at node-$survivor without the leader"
step "node-$old led and was stopped; a write went on"

"${compose[@]}" start "node-$old" >/dev/null 2>&1 || fail "start node-$old"
within 60 healthy "$old" || fail "node-$old does not come back"
within 20 reads "$old" third=3 || fail "node-$old lacks what was written without it"
within 20 agree || fail 'the states differ'
step "$(tail -n 1 "$scratch/last")"
echo 'PASS deploy'
