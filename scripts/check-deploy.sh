#!/usr/bin/env bash
# Every deploy file through its own checker; what none of them sees is in
# tests/e2e/test_deploy.py, which also runs this and spoils files to see it fail.
#
#   scripts/check-deploy.sh [ROOT]     ROOT: the tree that is checked, else this one
#
# Needs what scripts/setup-tests.sh installs. Says which checks failed, and why;
# exit 0 if none did, else 1.
set -uo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
cd "${1:-$here}" || exit 1
export PATH="$here/tests/e2e/.venv/bin:$PATH:/usr/sbin"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The exposure level, times ten, that the unit may not exceed; 100 is bare.
EXPOSURE=12

check() {
  local name=$1 output
  shift
  if output=$("$@" 2>&1); then
    echo "ok      $name"
  else
    echo "FAILED  $name"
    sed 's/^/        /' <<<"$output"
    failed=yes
  fi
}

# The unit beside a program that exists: /usr/local/bin is empty here. A mere
# warning is one too many, and `verify` has them end well.
verify_unit() {
  local output
  sed 's|/usr/local/bin/streamkeeper|/bin/true|' deploy/systemd/streamkeeper.service >"$scratch/streamkeeper.service"
  output=$(systemd-analyze verify --man=no "$scratch/streamkeeper.service" 2>&1) || { echo "$output"; return 1; }
  output=$(grep -F streamkeeper <<<"$output") && { echo "$output"; return 1; }
  return 0
}

# The package's wrapper exits with 0 whatever happens: a mistake is what it prints.
verify_compose() {
  local output
  output=$(docker-compose --file deploy/compose.yaml config --quiet 2>&1)
  [ -z "$output" ] || { echo "$output"; return 1; }
  docker-compose --file deploy/compose.yaml config --services | grep -q .
}

failed=no
check dockerfile hadolint deploy/Dockerfile
check compose verify_compose
check compose-security compose-lint --fail-on high deploy/compose.yaml
check haproxy haproxy -c -f deploy/haproxy/haproxy.cfg
check kubernetes kubernetes-validate --strict --quiet deploy/kubernetes/sidecar.yaml
check unit verify_unit
check unit-security systemd-analyze security --offline=true --no-pager --threshold="$EXPOSURE" deploy/systemd/streamkeeper.service
check workflow actionlint .github/workflows/*.yaml
check shell shellcheck --severity=warning scripts/*.sh .ci/run
[ $failed = no ]
