# Sourced by check.sh and by tests/pods/run: tools that the machine may lack, each fetched once by
# its registry's own client into a folder that is no part of the checkout's files.
#
# CARGO_TARGET_DIR   the folder is ci-tools/kubernetes in it (default: target)

tools=${CARGO_TARGET_DIR:-$(git -C "$(dirname "${BASH_SOURCE[0]}")" rev-parse --show-toplevel)/target}
tools=$tools/ci-tools/kubernetes
mkdir -p "$tools"

# A Python with the schemas of the Kubernetes API and a YAML reader. Prints its path, or why not.
python_with_schemas() {
  local version=1.37.0 python=$tools/python/bin/python
  if ! "$python" -c 'import kubernetes_validate, yaml' 2>/dev/null; then
    command -v python3 >/dev/null || { echo 'no python3'; return 1; }
    { python3 -m venv "$tools/python" &&
      timeout 300 "$tools/python/bin/pip" install --quiet "kubernetes-validate==$version"; } \
      >"$tools/python.log" 2>&1 ||
      { echo "kubernetes-validate $version: $(tail -n 1 "$tools/python.log")"; return 1; }
  fi
  echo "$python"
}

# Helm from its sources, when there is none: a few minutes on two cores. Prints its path, or why not.
helm_command() {
  local version=v3.22.0 helm
  helm=$(command -v helm) && { echo "$helm"; return; }
  helm=$tools/bin/helm
  if [ ! -x "$helm" ]; then
    command -v go >/dev/null || { echo 'no helm, and no go to build one'; return 1; }
    GOBIN=$tools/bin GOFLAGS="${HELM_GOFLAGS:-}" \
      timeout "${HELM_BUILD_SECONDS:-1200}" nice -n 10 go install "helm.sh/helm/v3/cmd/helm@$version" \
      >"$tools/helm.log" 2>&1 || { echo "helm $version: $(tail -n 1 "$tools/helm.log")"; return 1; }
  fi
  echo "$helm"
}
