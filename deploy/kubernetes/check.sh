#!/usr/bin/env bash
# Checks the Kubernetes manifests without a cluster: the plain ones against the schemas of the
# oldest and the newest API they are for; the chart rendered, the same; the default rendering says
# what the plain manifests say; values that must be refused are.
#
#   deploy/kubernetes/check.sh
#
# Ends with one line, "kubernetes: N passed, N failed, N skipped". Exit code 1 when one failed; 77
# when nothing could be checked. What a pod lives through is tests/pods/run.
set -uo pipefail
cd "$(dirname "$0")" || exit 1
. ./tools.sh
# 1.27 is the first that deletes the volume claims of pods scaled away without a feature gate.
readonly APIS=(1.27 1.37)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
passed=0 failed=0 skipped=0

# check WHAT COMMAND...: runs it; its output is shown when it fails.
check() {
  local what=$1
  shift
  if "$@" >"$scratch/out" 2>&1; then
    passed=$((passed + 1))
    echo "ok   $what"
  else
    failed=$((failed + 1))
    echo "FAIL $what"
    tail -n 30 "$scratch/out" | sed 's/^/     /'
  fi
}
skip() { skipped=$((skipped + 1)); echo "SKIP $*"; }
end() {
  echo "kubernetes: $passed passed, $failed failed, $skipped skipped"
  [ "$failed" = 0 ] || exit 1
  [ "$passed" != 0 ] || exit 77
  exit 0
}

python=$(python_with_schemas) || { skip "schemas: $python"; end; }

# Strict: a misspelt field is an error, too. `--quiet` would hide which resources were looked at.
valid() {
  local api=$1
  shift
  "$python" -m kubernetes_validate --strict --no-warn -k "$api" "$@" || return
}
refused() {
  local pattern=$1
  shift
  if "$@" >"$scratch/refused" 2>&1; then echo 'it was accepted'; return 1; fi
  grep -q -e "$pattern" "$scratch/refused" || { cat "$scratch/refused"; return 1; }
}
# The schemas have teeth: one misspelt field in an otherwise good file.
misspelt() {
  sed 's/podManagementPolicy/podManagmentPolicy/' quorate.yaml >"$scratch/misspelt.yaml"
  refused podManagmentPolicy valid "${APIS[0]}" "$scratch/misspelt.yaml"
}

for api in "${APIS[@]}"; do
  check "plain manifests, API $api" valid "$api" quorate.yaml network-policy.yaml
done
check 'a misspelt field is found' misspelt

helm=$(helm_command) || { skip "chart: $helm"; end; }
echo "helm $("$helm" version --short)"
readonly SECRET=(--set clusterSecret.existingSecret=quorate-cluster)

# A helm that was built here takes itself for one of an old cluster.
readonly CLUSTER=(--kube-version "${APIS[0]}")

# render NAME [HELM ARGUMENTS]: into $scratch/NAME.yaml.
render() {
  local name=$1
  shift
  "$helm" template "${release:-quorate}" chart "${CLUSTER[@]}" "$@" >"$scratch/$name.yaml"
}
renders() { render "$@" && for api in "${APIS[@]}"; do valid "$api" "$scratch/$1.yaml" || return; done; }
same() { "$python" compare.py "$@"; }
contains() { grep -q -e "$1" "$scratch/$2.yaml" || { echo "no $1 in it"; return 1; }; }
lacks() { ! grep -q -e "$1" "$scratch/$2.yaml" || { echo "$1 in it"; return 1; }; }

check 'chart: lint' "$helm" lint --strict chart "${CLUSTER[@]}" "${SECRET[@]}"
check 'chart: default rendering' renders default "${SECRET[@]}"
check 'chart: default rendering = plain manifests' same "$scratch/default.yaml" quorate.yaml
check 'chart: with network policy' renders policy "${SECRET[@]}" --set networkPolicy.enabled=true
check 'chart: with network policy = both plain files' \
  same "$scratch/policy.yaml" quorate.yaml network-policy.yaml
difference() {
  render five "${SECRET[@]}" --set replicas=5 &&
    refused 'StatefulSet/quorate spec.replicas' same "$scratch/five.yaml" quorate.yaml
}
check 'chart: the comparison finds a difference' difference

cat >"$scratch/values.yaml" <<'VALUES'
image: {name: example.invalid/quorate, tag: "1.2", pullPolicy: Always, pullSecrets: [{name: pull}]}
replicas: 5
clusterSecret: {value: "0123456789abcdef"}
settings: {log: "info,quorate_raft=debug", max_held_polls: 200000, snapshot_every_bytes: 1GiB}
listenHost: "[::]"
storage: {size: 50Gi, className: fast}
resources: {requests: {cpu: "2", memory: 4Gi}, limits: {memory: 4Gi}}
service: {type: LoadBalancer, annotations: {example.invalid/internal: "true"}}
networkPolicy: {enabled: true}
scaleDown: {job: always}
podAnnotations: {prometheus.io/scrape: "true"}
nodeSelector: {disk: ssd}
tolerations: [{key: dedicated, operator: Exists}]
priorityClassName: important
VALUES
check 'chart: every value set' renders all --values "$scratch/values.yaml"
check 'chart: a number stays a whole number' contains '^    max_held_polls = 200000$' all
check 'chart: founders stay three of five' \
  contains 'value: quorate-0.quorate-peers:7848,quorate-1.quorate-peers:7848,quorate-2.quorate-peers:7848$' all
check 'chart: the job removes 6 and 5 of seven' contains '- quorate-5.quorate-peers:7848$' all
check 'chart: the job leaves what stays' lacks '- quorate-4.quorate-peers:7848$' all
release=blue
check 'chart: under another name' renders other "${SECRET[@]}"
release=quorate
no_job() { lacks 'kind: Job' default; }
check 'chart: no job without a reason' no_job
no_fixed_names() {
  grep -v helm.sh/chart "$scratch/other.yaml" | grep -n -e ' quorate-[0-9p]' && return 1
  contains 'blue-quorate-2.blue-quorate-peers:7848' other
}
check 'chart: no name of another release in it' no_fixed_names

must_refuse() { check "chart: refuses $1" refused "$2" render refused "${@:3}"; }
must_refuse 'no secret' 'clusterSecret: required'
must_refuse 'two secrets' 'not both' "${SECRET[@]}" --set clusterSecret.value=0123456789abcdef
must_refuse 'a short secret' 'clusterSecret.value' --set clusterSecret.value=short
must_refuse 'two replicas' 'replicas' "${SECRET[@]}" --set replicas=2
must_refuse 'nine replicas' 'replicas' "${SECRET[@]}" --set replicas=9
# Helm names the place wrongly, but the property.
must_refuse 'a setting that the chart gives' "'peers'" "${SECRET[@]}" --set settings.peers=a:1
must_refuse 'an unknown value' 'replica' "${SECRET[@]}" --set replica=3
release=$(printf 'a%.0s' {1..45})
must_refuse 'a long name' 'longer than 40' "${SECRET[@]}"
end
