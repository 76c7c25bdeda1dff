#!/usr/bin/env bash
# Counts work instead of timing it, so that the machine's speed does not matter:
#
#   instructions per event of codec and ring, by callgrind, compared with the
#   figures kept in bench/instructions.txt; more than 1.5 times as many fail,
#   --keep writes them down anew
#   system calls per event of whole proxies, by strace: only printed
#
# Allocations per event are a test: cargo test --test allocations
#
#   scripts/count.sh [--keep]
set -euo pipefail

cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}/release
kept=bench/instructions.txt
few=20000
many=60000

# Prints how many instructions it takes to run a piece for so many events.
instructions() {
  valgrind --tool=callgrind --callgrind-out-file=/dev/null \
    "$target/streamkeeper-bench-counted" "$1" "$2" 2>&1 |
    sed -n 's/^==[0-9]*== Collected : \([0-9]*\).*/\1/p'
}

cargo build --quiet --release -p streamkeeper -p streamkeeper-bench

status=0 found=$(mktemp)
trap 'rm -f "$found"' EXIT
echo "# Instructions per event of 200 bytes: scripts/count.sh --keep" >"$found"
printf '%-20s %14s %8s\n' piece instructions kept
while read -r piece before; do
  less=$(instructions "$piece" $few)
  more=$(instructions "$piece" $many)
  now=$(((more - less) / (many - few)))
  note=
  if [ "${1:-}" != --keep ] && [ $((now * 2)) -gt $((before * 3)) ]; then
    note="   more than 1.5 times as many"
    status=1
  fi
  printf '%-20s %14d %8d%s\n' "$piece" "$now" "$before" "$note"
  echo "$piece $now" >>"$found"
done < <(grep -v '^#' $kept)
[ "${1:-}" != --keep ] || cp "$found" $kept

"$target/streamkeeper-bench" --count
exit $status
