#!/bin/sh
# Makes what compose.yaml mounts as secrets, once: a fresh 256-bit token and a configuration that is yours to edit.
#   sh deploy/secrets.sh
# What exists is never replaced. The folder is closed to other users; the files inside are readable, because the
# container's user may be another number than yours.
set -eu
cd "$(dirname -- "$0")"
umask 077
mkdir -p secrets
chmod 700 secrets
# The folder keeps itself out of version control and out of packages.
echo '*' >secrets/.gitignore
# Compose makes folders of files that it was told to mount and did not find.
rmdir secrets/token secrets/config.json5 2>/dev/null || true

if [ ! -e secrets/token ]; then
  od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >secrets/token.new
  chmod 444 secrets/token.new
  mv secrets/token.new secrets/token
  echo 'secrets: made deploy/secrets/token'
fi
if [ ! -e secrets/config.json5 ]; then
  cp compose.json5 secrets/config.json5.new
  chmod 644 secrets/config.json5.new
  mv secrets/config.json5.new secrets/config.json5
  echo 'secrets: made deploy/secrets/config.json5'
fi

# Mounted secrets must belong to root or to the user that Hardshell runs as.
user=$(id -u)
if [ "$user" != 0 ] && [ "$user" != 1000 ]; then
  for settings in ../.env .env; do
    grep -qs '^HARDSHELL_UID=' "$settings" || echo "HARDSHELL_UID=$user" >>"$settings"
  done
  echo "secrets: the containers run as user $user (HARDSHELL_UID in .env)"
fi
echo 'secrets: ready. After "docker compose up": HARDSHELL_TOKEN=$(cat deploy/secrets/token) deploy/verify.sh http://127.0.0.1:8080'
