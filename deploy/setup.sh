#!/bin/sh
# Makes a machine ready: installs with apt what is missing and starts a container engine when none answers.
#   deploy/setup.sh engine | compose | redis | chromium | bubblewrap | bench | all …
# Safe to run again and from several places at once. Nothing comes from anywhere but the machine's own apt sources.
# What is already there is never changed; services of the packages (redis, nginx, caddy) are not started.
set -eu

log=${TMPDIR:-/tmp}/hardshell-setup-$(id -u).log
if [ "$(id -u)" = 0 ]; then log=/var/log/hardshell-setup.log; fi
engine_log=/var/log/hardshell-dockerd.log

say() { echo "setup: $*"; }
fail() { echo "setup: $*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# The Unix sockets where an engine may answer, and the one that an engine started here listens on. The client binary being
# there proves nothing, nor does a pid file: only an answer to _ping does.
own=${XDG_RUNTIME_DIR:-}
socket=/var/run/docker.sock
sockets="$socket /run/podman/podman.sock${own:+ $own/docker.sock $own/podman/podman.sock}"
case "${DOCKER_HOST:-}" in
  '') ;;
  unix://*) socket=${DOCKER_HOST#unix://} sockets=$socket ;;
  *) socket= ;;
esac

ping_socket() {
  [ -S "$1" ] || return 1
  if have curl; then
    answer=$(curl --silent --max-time 3 --unix-socket "$1" http://engine/_ping 2>/dev/null) || return 1
  else
    answer=$(node -e '
      require("node:http")
        .get({ socketPath: process.argv[1], path: "/_ping", timeout: 3000 }, (r) => r.pipe(process.stdout))
        .on("error", () => process.exit(1)).on("timeout", () => process.exit(1))' "$1" 2>/dev/null) || return 1
  fi
  [ "$answer" = OK ]
}

ping_engine() {
  for candidate in $sockets; do
    if ping_socket "$candidate"; then return 0; fi
  done
  return 1
}

# What is missing, as "<command>:<package>" pairs of a part.
tools_of() {
  case "$1" in
    engine) echo 'dockerd:docker.io iptables:iptables curl:curl flock:util-linux' ;;
    compose) echo 'docker-compose:docker-compose' ;;
    redis) echo 'redis-server:redis-server' ;;
    chromium) echo 'chromium:chromium' ;;
    bubblewrap) echo 'bwrap:bubblewrap setpriv:util-linux' ;;
    bench) echo 'wrk:wrk nginx:nginx-light caddy:caddy curl:curl' ;;
  esac
}

missing_packages() {
  for part in $parts; do
    # An engine that answers needs no packages, whoever installed it.
    if [ "$part" = engine ] && ping_engine; then continue; fi
    for pair in $(tools_of "$part"); do
      have "${pair%%:*}" || echo "${pair#*:}"
    done
  done | sort -u | tr '\n' ' '
}

ready() { [ -z "$(missing_packages)" ] && { ! wants engine || ping_engine; }; }
wants() { case " $parts " in *" $1 "*) true ;; *) false ;; esac; }

# Keeps apt from starting the services of what it installs: policy-rc.d(8), 101 is "not allowed".
policy=/usr/sbin/policy-rc.d
policy_mark='# written by hardshell setup'
forbid_services() {
  [ -e "$policy" ] && return 0
  printf '#!/bin/sh\n%s\nexit 101\n' "$policy_mark" >"$policy"
  chmod 755 "$policy"
}
permit_services() {
  if grep -qsF "$policy_mark" "$policy"; then rm -f "$policy"; fi
}

apt() {
  # 9 is the lock of this script: nothing that outlives it may inherit it.
  DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l apt-get -o DPkg::Lock::Timeout=300 "$@" </dev/null >>"$log" 2>&1 9>&-
}

install_missing() {
  packages=$(missing_packages)
  [ -n "$packages" ] || return 0
  say "installing $packages"
  apt update || fail "\"apt-get update\" failed: $(tail -n 1 "$log"). See $log."
  forbid_services
  # shellcheck disable=SC2086 # one word per package
  apt install -y --no-install-recommends $packages || fail "\"apt-get install $packages\" failed: $(tail -n 1 "$log"). See $log."
  # Debian 13 has the client in its own package.
  if ! have docker && apt-cache show docker-cli >/dev/null 2>&1; then apt install -y --no-install-recommends docker-cli || true; fi
  permit_services
  if [ -d /run/systemd/system ]; then
    for service in redis-server nginx caddy; do
      case " $packages" in *" $service"*) systemctl disable "$service" >>"$log" 2>&1 9>&- || true ;; esac
    done
  fi
  left=$(missing_packages)
  [ -z "$left" ] || fail "apt installed $packages, yet $left still lacks its command. See $log."
}

# A machine without an init system may have no cgroup controllers mounted; the engine needs them.
mount_cgroups() {
  root=/sys/fs/cgroup
  [ -e "$root/cgroup.controllers" ] && return 0
  [ -r /proc/cgroups ] || return 0
  grep -q " $root " /proc/mounts || mount -t tmpfs -o mode=755 cgroup "$root" >>"$log" 2>&1 || return 0
  awk '!/^#/ && $4 == 1 { print $1 }' /proc/cgroups | while read -r controller; do
    grep -Eq " cgroup [^ ]*(^|,)$controller(,| )" /proc/mounts && continue
    grep -q " $root/$controller " /proc/mounts && continue
    mkdir -p "$root/$controller"
    mount -t cgroup -o "$controller" cgroup "$root/$controller" >>"$log" 2>&1 || true
  done
}

# A pid file left by a killed engine keeps the next one from starting when something else has that pid, or a zombie.
clear_stale_pid() {
  file=/var/run/docker.pid
  [ -f "$file" ] || return 0
  pid=$(cat "$file" 2>/dev/null) || return 0
  case "$pid" in '' | *[!0-9]*) rm -f "$file"; return 0 ;; esac
  if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ] && ! grep -q '^State:[[:space:]]*Z' "/proc/$pid/status" 2>/dev/null; then
    # Alive: it is starting, or it listens elsewhere.
    wait_engine 15 "$pid" && return 0
    fail "an engine runs (pid $pid) but does not answer on $socket: set DOCKER_HOST to its socket, or stop it."
  fi
  rm -f "$file"
}

# Waits up to $1 seconds for an answer, or until process $2 is gone.
wait_engine() {
  tries=$(($1 * 5))
  while [ "$tries" -gt 0 ]; do
    ping_engine && return 0
    kill -0 "$2" 2>/dev/null || return 1
    tries=$((tries - 1))
    sleep 0.2
  done
  return 1
}

start_engine() {
  ping_engine && return 0
  if [ -d /run/systemd/system ] && [ "$socket" = /var/run/docker.sock ]; then
    say 'starting docker.service'
    systemctl start docker >>"$log" 2>&1 9>&- || fail "docker.service does not start: see \"journalctl -u docker\"."
    wait_engine 30 $$ || fail "docker.service runs but does not answer on $socket: see \"journalctl -u docker\"."
    return 0
  fi
  mount_cgroups
  # The second try meets no containerd left over from a killed engine; vfs works where overlay mounts do not.
  for driver in overlay2 overlay2 vfs; do
    clear_stale_pid
    ping_engine && return 0
    set -- --host "unix://$socket"
    # A driver named in the engine's own settings may not be named twice.
    grep -qs storage-driver /etc/docker/daemon.json || set -- "$@" --storage-driver "$driver"
    setsid dockerd "$@" >>"$engine_log" 2>&1 </dev/null 9>&- &
    if wait_engine 40 $!; then
      say "started dockerd ($driver), its log is $engine_log"
      return 0
    fi
    kill $! 2>/dev/null || true
    wait $! 2>/dev/null || true
  done
  fail "dockerd does not start: $(grep -E 'fail|unable|error|fatal' "$engine_log" | tail -n 1 | cut -c1-300). See $engine_log."
}

parts=
for part in "$@"; do
  case "$part" in
    all) parts="$parts engine compose redis chromium bubblewrap bench" ;;
    engine | compose | redis | chromium | bubblewrap | bench) parts="$parts $part" ;;
    *) echo "setup: unknown part \"$part\": use engine, compose, redis, chromium, bubblewrap, bench or all." >&2; exit 2 ;;
  esac
done
[ -n "$parts" ] || { echo 'setup: say what to set up: engine, compose, redis, chromium, bubblewrap, bench or all.' >&2; exit 2; }
if wants engine && [ -z "$socket" ]; then
  fail "DOCKER_HOST=$DOCKER_HOST is not a Unix socket: Hardshell talks to the engine over unix://… only."
fi

if ready; then say "ready:$parts"; exit 0; fi

packages=$(missing_packages)
if [ "$(id -u)" != 0 ]; then
  if [ -n "$packages" ]; then fail "missing: as root run: apt-get install --no-install-recommends $packages"; fi
  if [ -S "$socket" ] && [ ! -w "$socket" ]; then
    fail "the engine's socket $socket is not yours: as root run \"usermod -aG docker $(id -un)\" and log in again."
  fi
  fail "no container engine answers on $socket: as root run \"systemctl start docker\" or deploy/setup.sh engine"
fi
if [ -n "$packages" ] && { ! have apt-get || [ ! -e /etc/debian_version ]; }; then
  fail "this is not Debian or Ubuntu: install the equivalents of these Debian packages yourself: $packages"
fi

# One at a time: a second caller waits, and then finds everything ready.
if have flock; then
  exec 9>/run/hardshell-setup.lock
  flock -w 900 9 || fail 'another setup has held /run/hardshell-setup.lock for 15 minutes.'
fi
trap permit_services EXIT
trap 'exit 130' INT TERM HUP

install_missing
if wants engine; then start_engine; fi
ready || fail "setup ended, but something is still missing:$parts. See $log."
say "ready:$parts"
