#!/bin/sh
# npm run check: types, lint, format, and generated documents in step with the tables they come from.
set -eu
cd "$(dirname -- "$0")/.."
node() { sh deploy/node.sh "$@"; }

failed=
step() {
  name=$1
  shift
  "$@" || failed="$failed $name"
}
step types node node_modules/typescript/bin/tsc --noEmit
# The folders are named: without them the linter walks into node_modules. Plain .mjs programs run in containers and are
# no part of the typed program, so the rules about types have nothing to go by there.
step lint node node_modules/.bin/oxlint --type-aware --ignore-pattern '**/*.mjs' src test bench
step format node node_modules/.bin/oxfmt --check
step docs node src/main.ts config docs --check
if [ -n "$failed" ]; then
  echo "check: failed:$failed" >&2
  exit 1
fi
echo 'check: types, lint, format and generated documents are in order'
