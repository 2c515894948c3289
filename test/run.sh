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
if [ "$#" -gt 0 ]; then
  case "$*" in *sdk-*) sdks ;; esac
  node --test --test-concurrency=1 "$@"
  exit
fi

sdks
failed=
# Pure tests share one process: they open no sockets and hold no global state.
# shellcheck disable=SC2046 # one word per file: no test file has a blank in its name
node --test --test-isolation=none $(files test/tidy.test.ts test/unit test/contract test/property) || failed="$failed unit"
# These open sockets, start processes and containers: a process for each file, so that none can hide another's leak.
# shellcheck disable=SC2046
node --test --test-concurrency=2 --test-timeout=300000 $(files test/attacks test/e2e) || failed="$failed e2e"
if [ -n "$failed" ]; then
  echo "test: failed:$failed" >&2
  exit 1
fi
