#!/usr/bin/env bash
# Installs what the end-to-end tests and the benchmark need, on Debian 12, as
# root or through sudo. Safe to run again: whatever is there already is kept,
# and a second run takes well under a second.
#
#   Debian   chromium (browser tests), nginx and haproxy (the benchmark's
#            yardsticks; haproxy also balances two replicas in a test), redis,
#            prometheus with promtool, buildah, systemd-analyze, curl
#   Python   tests/e2e/.venv, from tests/e2e/requirements.txt; it brings a
#            pinned Node as well, Debian's own being too old for the SDKs
#            and, inside it, old/: versions that old programs still use, from
#            tests/e2e/matrix/old-requirements.txt, each in a folder of its own
#   Node     tests/e2e/node_modules, from tests/e2e/package-lock.json
#
# Which registries are asked is left to the machine's pip and npm settings.
set -euo pipefail

cd "$(dirname "$0")/.."
e2e=tests/e2e
venv=$e2e/.venv

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

has_package() {
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

install_debian_packages() {
  local missing=()
  command -v chromium >/dev/null || missing+=(chromium)
  command -v curl >/dev/null || missing+=(curl)
  [ -x /usr/sbin/nginx ] || missing+=(nginx-light)
  [ -x /usr/sbin/haproxy ] || missing+=(haproxy)
  command -v redis-server >/dev/null || missing+=(redis-server)
  command -v redis-sentinel >/dev/null || missing+=(redis-sentinel)
  command -v promtool >/dev/null || missing+=(prometheus)
  command -v buildah >/dev/null || missing+=(buildah)
  command -v systemd-analyze >/dev/null || missing+=(systemd)
  has_package ca-certificates || missing+=(ca-certificates)
  command -v python3 >/dev/null || missing+=(python3)
  # Debian splits venv off from python3; other Pythons bring it along.
  python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3 python3-venv)
  # Text in a screenshot should be text, not boxes.
  has_package fonts-dejavu-core || missing+=(fonts-dejavu-core)
  [ ${#missing[@]} -eq 0 ] && return

  echo "setup-tests: apt-get install ${missing[*]}"
  # Without this Debian would start nginx's service at once; the benchmark
  # starts its own nginx on its own ports and nothing else should listen.
  # Somebody else's policy is kept.
  local policy=/usr/sbin/policy-rc.d ours=no
  if [ ! -e $policy ]; then
    ours=yes
    printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
    as_root chmod 755 $policy
  fi
  local status=0
  as_root apt-get update -q || status=$?
  [ $status -ne 0 ] || as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -q --no-install-recommends "${missing[@]}" || status=$?
  [ $ours = no ] || as_root rm -f $policy
  return $status
}

# Prints a fingerprint of the files named, to see whether they changed since
# the last installation from them.
fingerprint() {
  sha256sum "$@" | sha256sum | cut -d' ' -f1
}

install_python_packages() {
  local want stamp=$venv/.installed
  want=$(fingerprint $e2e/requirements.txt $e2e/constraints.txt)
  if [ -x $venv/bin/python ] && [ "$(cat $stamp 2>/dev/null)" = "$want" ]; then
    return
  fi
  echo "setup-tests: Python packages into $venv"
  [ -x $venv/bin/python ] || python3 -m venv $venv
  $venv/bin/python -m pip install -q --disable-pip-version-check \
    -r $e2e/requirements.txt -c $e2e/constraints.txt
  echo "$want" >$stamp
}

# Old versions cannot be in the venv beside the current ones. What they need is
# there already, so each comes alone.
install_old_python_packages() {
  local want list=$e2e/matrix/old-requirements.txt stamp=$venv/old/.installed
  want=$(fingerprint $list)
  [ "$(cat $stamp 2>/dev/null)" = "$want" ] && return
  echo "setup-tests: old Python packages into $venv/old"
  rm -rf $venv/old
  local package
  for package in $(sed 's/#.*//' $list); do
    $venv/bin/python -m pip install -q --disable-pip-version-check --no-deps \
      --target "$venv/old/${package/==/-}" "$package"
  done
  echo "$want" >$stamp
}

install_node_packages() {
  local want stamp=$e2e/node_modules/.installed
  want=$(fingerprint $e2e/package.json $e2e/package-lock.json)
  [ "$(cat $stamp 2>/dev/null)" = "$want" ] && return
  echo "setup-tests: Node packages into $e2e/node_modules"
  # Both from the venv, so that everybody tests with the same Node.
  (cd $e2e && PATH="$PWD/.venv/bin:$PATH" npm ci --no-audit --no-fund --ignore-scripts)
  echo "$want" >$stamp
}

install_debian_packages
install_python_packages
install_old_python_packages
install_node_packages
echo "setup-tests: ready"
