#!/bin/sh
# npm test: everything, against a real container engine. Sets up what the machine lacks first.
# With arguments it runs only those test files: sh test/run.sh test/e2e/verify.test.ts
set -eu
cd "$(dirname -- "$0")/.."
node() { sh deploy/node.sh "$@"; }
node -e '' # says so on one line when no Node is new enough

sh deploy/setup.sh engine compose chromium

# The SDKs of real bots, for test/e2e/sdk-*.test.ts: pinned by a lockfile of their own, and no part of Hardshell.
sdks() {
  [ test/sdk/node_modules/.package-lock.json -nt test/sdk/package-lock.json ] ||
    (cd test/sdk && npm ci --loglevel=error --prefer-offline)
}
files() { find "$@" -name '*.test.ts' -not -path '*/node_modules/*' 2>/dev/null | sort; }
# Everything that Hardshell produces in this run is kept in one folder, and at the end searched for every secret that a
# test planted. TEST_EVIDENCE names a folder to keep; else it is a new one, removed when nothing was found.
kept=${TEST_EVIDENCE-}
TEST_EVIDENCE=${TEST_EVIDENCE:-$(mktemp -d "${TMPDIR:-/tmp}/hardshell-evidence-XXXXXX")}
export TEST_EVIDENCE
mkdir -p "$TEST_EVIDENCE/reports"
tests() {
  report="$TEST_EVIDENCE/reports/$1"
  shift
  node --import ./test/support/evidence.ts --test --test-reporter=spec --test-reporter-destination=stdout \
    --test-reporter=tap --test-reporter-destination="$report" "$@"
}
search() {
  node test/evidence.ts "$TEST_EVIDENCE" "$1" || failed="$failed secrets"
  if [ -n "$failed" ]; then
    echo "test: failed:$failed; what was produced is in $TEST_EVIDENCE" >&2
    exit 1
  fi
  [ -n "$kept" ] || rm -rf "$TEST_EVIDENCE"
}

failed=
if [ "$#" -gt 0 ]; then
  case "$*" in *sdk-*) sdks ;; esac
  tests chosen --test-concurrency=1 "$@" || failed="$failed chosen"
  search chosen
  exit
fi

sdks
# Pure tests share one process: they open no sockets and hold no global state.
# shellcheck disable=SC2046 # one word per file: no test file has a blank in its name
tests unit --test-isolation=none $(files test/tidy.test.ts test/unit test/contract test/property) || failed="$failed unit"
# These open sockets, start processes and containers: a process for each file, so that none can hide another's leak.
# shellcheck disable=SC2046
tests e2e --test-concurrency=2 --test-timeout=300000 $(files test/attacks test/e2e) || failed="$failed e2e"
search whole
