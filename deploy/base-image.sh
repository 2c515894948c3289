#!/bin/sh
# Makes an image with Node 24, npm and a shell out of this machine's own files, for machines that can pull nothing:
#   deploy/base-image.sh NAME[:TAG]
# It stands in for node:24-bookworm-slim as the build argument BASE, in the demo and in the tests. Published images are
# built on the pinned base of the Dockerfile, never on this.
set -eu
[ "$#" = 1 ] || { echo 'usage: deploy/base-image.sh NAME[:TAG]' >&2; exit 2; }
name=$1
here=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
fail() { echo "base-image: $*" >&2; exit 1; }

node=$(sh "$here/deploy/node.sh" -p process.execPath)
version=$("$node" --version)
# npm is this machine's own: one folder that holds all it needs.
npm=$(command -v npm) || fail 'npm is not on the PATH.'
npm=$(dirname "$(dirname "$(readlink -f "$npm")")")
[ -d "$npm/node_modules" ] && [ -f "$npm/bin/npm-cli.js" ] || fail "the npm in $npm is not in one piece: use the npm that comes with Node itself."
# Where this machine's npm gets packages from, if somebody chose a place.
registry=$(npm config get registry 2>/dev/null) || registry=
# Behind a proxy that opens TLS, npm trusts what this machine trusts.
authorities=/etc/ssl/certs/ca-certificates.crt

made_from="$version $npm $registry $(cksum <"$0") $(cksum 2>/dev/null <"$authorities" || true)"
made_from=$(printf %s "$made_from" | cksum | tr ' ' -)
if [ "$(docker image inspect --format '{{index .Config.Labels "hardshell.base"}}' "$name" 2>/dev/null || true)" = "$made_from" ]; then
  echo "$name is up to date"
  exit 0
fi

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
trap 'exit 130' INT TERM HUP
# mktemp makes 0700: a container's user other than root could not enter its own root.
chmod 755 "$root"
mkdir -p "$root/usr/local/bin" "$root/usr/local/lib/node_modules" "$root/usr/local/etc" "$root/usr/bin" "$root/etc/ssl/certs" \
  "$root/root" "$root/home/node" "$root/var/lib" "$root/tmp"
chmod 1777 "$root/tmp"
chmod 700 "$root/root"
for part in bin lib lib64 sbin; do
  # Debian's own folders may be links into /usr; the image has them as links everywhere.
  mkdir -p "$root/usr/$part"
  ln -s "usr/$part" "$root/$part"
done

with_libraries() {
  ldd "$1" 2>/dev/null | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "$root/usr${library%/*}" 2>/dev/null || true
    case "$library" in
      /usr/*) target="$root$library" ;;
      *) target="$root/usr$library" ;;
    esac
    mkdir -p "${target%/*}"
    [ -e "$target" ] || cp -L "$library" "$target"
  done
}
cp -L "$node" "$root/usr/local/bin/node"
chmod 755 "$root/usr/local/bin/node"
with_libraries "$node"
for tool in sh env cat ls cp mv rm mkdir rmdir chown chmod ln touch id sleep test true false printf head tail grep sed tr wc mktemp; do
  path=$(command -v "/bin/$tool" || command -v "/usr/bin/$tool") || fail "$tool is not on this machine."
  cp -L "$path" "$root/usr/bin/$tool"
  with_libraries "$path"
done
# Names of hosts and users are looked up by libraries that no program is linked against.
for library in /lib/*/libnss_files.so.2 /lib/*/libnss_dns.so.2 /lib/*/libresolv.so.2; do
  if [ -e "$library" ]; then mkdir -p "$root/usr${library%/*}"; cp -L "$library" "$root/usr$library"; fi
done
cp -R "$npm" "$root/usr/local/lib/node_modules/npm"
ln -s ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
ln -s ../lib/node_modules/npm/bin/npx-cli.js "$root/usr/local/bin/npx"
chmod 755 "$root"/usr/local/lib/node_modules/npm/bin/np?-cli.js
if [ -n "$registry" ]; then printf 'registry=%s\n' "$registry" >"$root/usr/local/etc/npmrc"; fi
if [ -r "$authorities" ]; then cp -L "$authorities" "$root$authorities"; fi
printf 'root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\nnode:x:1000:\n' >"$root/etc/group"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"

set -- --change 'ENV PATH=/usr/local/bin:/usr/bin:/bin' --change 'CMD ["node"]' --change "LABEL hardshell.base=$made_from"
if [ -r "$authorities" ]; then set -- "$@" --change "ENV NODE_EXTRA_CA_CERTS=$authorities"; fi
tar -C "$root" --numeric-owner --owner=0 --group=0 -cf - . | docker import "$@" - "$name" >/dev/null || fail "the engine does not take the image $name."
echo "$name made with Node $version"
