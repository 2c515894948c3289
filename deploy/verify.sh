#!/bin/sh
# Checks a running Hardshell from the outside with curl, one line for each check: PASS or FAIL. Exit 0 when all pass,
# 1 when one fails, 2 on bad usage.
#   HARDSHELL_TOKEN=… deploy/verify.sh http://127.0.0.1:8080
#   deploy/verify.sh http://127.0.0.1:8080 - <token-file        (a token as second argument works, but others can see it)
# It makes one wrong guess, ends with a burst that uses up the token's minute, and waits where an earlier run left
# nothing of that minute. HEALTH_PATH names another gateway.healthPath than /health.
# Two checks are made only when they are asked for, in front of the URL:
#   --rotation  makes a throw-away token with the command line, rotates and revokes it. HARDSHELL is that command line
#               ("hardshell" by default; "docker compose exec -T hardshell hardshell").
#   --lockout   guesses until this address is locked: for minutes its guesses are refused, and good tokens pass.
set -eu

usage() {
  echo 'usage: HARDSHELL_TOKEN=… deploy/verify.sh [--rotation] [--lockout] URL [TOKEN | -]' >&2
  exit 2
}
rotation= lockout=
while :; do
  case "${1:-}" in
    --rotation) rotation=yes ;;
    --lockout) lockout=yes ;;
    *) break ;;
  esac
  shift
done
[ "$#" -ge 1 ] && [ "$#" -le 2 ] || usage
url=${1%/}
case "$url" in
  http://?* | https://?*) ;;
  *) usage ;;
esac
command -v curl >/dev/null 2>&1 || { echo 'verify: curl is not installed.' >&2; exit 2; }

case "${2:-}" in
  '') token=${HARDSHELL_TOKEN:-} ;;
  -) IFS= read -r token || [ -n "$token" ] || token= ;;
  *) token=$2 ;;
esac
# The programs started here need not find it in their environment.
unset HARDSHELL_TOKEN
[ -n "$token" ] || { echo 'verify: no token: set HARDSHELL_TOKEN, or give "-" and the token on standard input.' >&2; exit 2; }
# A well-formed guess, another one each time.
wrong=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
health=${HEALTH_PATH:-/health}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP

failures=0
pass() { echo "PASS $1"; }
failed() {
  failures=$((failures + 1))
  echo "FAIL $1"
}

# The credential as a line of a curl configuration. printf is part of the shell: no process shows the token.
authorization() {
  [ -n "$1" ] || return 0
  printf '%s\n' "$1" | sed 's/[\\"]/\\&/g; s/^/header = "Authorization: Bearer /; s/$/"/'
}

# run CREDENTIAL [curl options] URL…: one curl; its output is the status of each answer on a line of its own.
run() {
  credential=$1
  shift
  authorization "$credential" |
    curl -q --config - --silent --noproxy '*' --max-time 60 --dump-header "$work/head" --output "$work/body" \
      --write-out '%{http_code}\n' "$@" || true
}

# The value of header $1 in the newest answer, empty without one.
header() {
  tr -d '\r' <"$work/head" | awk -v name="$1" '
    /^HTTP\// { value = ""; next }
    { at = index($0, ":"); if (at && tolower(substr($0, 1, at - 1)) == name) { value = substr($0, at + 1); sub(/^ */, "", value) } }
    END { print value }'
}

code_of_refusal() { sed -n 's/.*"code"[[:space:]]*:[[:space:]]*"\([A-Z_]*\)".*/\1/p' "$work/body" | head -n 1; }

# ask CREDENTIAL [curl options] URL: sets status. Waits as long as Retry-After says when the minute is used up.
ask() {
  for _ in 1 2 3; do
    : >"$work/head"
    : >"$work/body"
    status=$(run "$@")
    [ "$status" = 429 ] && [ "$(code_of_refusal)" = RATE_LIMITED ] || return 0
    pause=$(header retry-after)
    case "$pause" in '' | *[!0-9]*) return 0 ;; esac
    [ "$pause" -le 120 ] || return 0
    echo "     the limit is used up: waiting $pause s"
    sleep "$((pause + 1))"
  done
}

# expect STATUS WHAT: judges the newest answer.
expect() {
  if [ "$status" = "$1" ]; then
    pass "$2 → $status"
  elif [ "$status" = 000 ]; then
    failed "$2 → no answer from $url (expected $1)"
  else
    failed "$2 → $status $(code_of_refusal) (expected $1)"
  fi
}

ask "$token" "$url$health"
if [ "$status" = 200 ] && case "$(header content-type)" in application/json*) true ;; *) false ;; esac &&
  [ "$(head -c 1 "$work/body")" = '{' ]; then
  pass "right token on $health → 200 with JSON"
elif [ "$status" = 200 ]; then
  failed "right token on $health → 200, but not JSON"
else
  expect 200 "right token on $health"
fi

ask '' "$url$health"
expect 401 "no token on $health"

# After five wrong guesses in five minutes an address is locked: its guesses are refused without being looked at.
ask "$wrong" "$url$health"
if [ "$status" = 429 ] && [ "$(code_of_refusal)" = AUTH_LOCKED ] && [ -n "$(header retry-after)" ]; then
  pass "wrong token on $health → 429 AUTH_LOCKED (this address is locked out after earlier wrong tokens)"
else
  expect 401 "wrong token on $health"
fi

# One byte that claims to be a tebibyte: more than any limit allows.
ask "$token" --request POST --header 'Content-Length: 1099511627776' --header 'Content-Type: application/octet-stream' \
  --header 'Expect:' --data-binary x "$url/"
expect 413 'body over the limit'

ask "$token" --header 'Host: attacker.example' "$url$health"
expect 421 'foreign Host'

ask "$token" --header 'Origin: https://attacker.example' "$url$health"
expect 403 'foreign Origin'

# Binding: which addresses of this machine listen on the port of the URL, from the kernel's own tables.
rest=${url#*://}
authority=${rest%%/*}
case "$authority" in
  \[*\]:*) host=${authority%:*} port=${authority##*:} ;;
  \[*\]) host=$authority port= ;;
  *:*) host=${authority%:*} port=${authority##*:} ;;
  *) host=$authority port= ;;
esac
if [ -z "$port" ]; then
  case "$url" in https:*) port=443 ;; *) port=80 ;; esac
fi

# Other addresses of this machine that are open on the port, from the tables and by trying them.
listening_elsewhere() {
  if [ -r /proc/net/tcp ]; then
    # Address 0100007F is 127.0.0.1 as the kernel prints it, 0A is LISTEN.
    cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v port="$(printf '%04X' "$port")" '
      function loopback(hex) {
        return (length(hex) == 8 && hex ~ /7F$/) || hex == "00000000000000000000000001000000" || hex ~ /^0000000000000000FFFF0000......7F$/
      }
      $4 == "0A" { split($2, at, ":"); if (at[2] == port && !loopback(at[1])) print at[1] " (as /proc/net/tcp writes it)" }'
  elif command -v ss >/dev/null 2>&1; then
    ss -Hltn "sport = :$port" | awk '$4 !~ /^127\./ && $4 !~ /^\[::1\]/ { print $4 }'
  fi
  for address in $(hostname -I 2>/dev/null || true); do
    case "$address" in *:*) address="[$address]" ;; esac
    answer=$(curl -q --silent --noproxy '*' --connect-timeout 1 --max-time 3 --output /dev/null --write-out '%{http_code}' \
      "http://$address:$port/" || true)
    [ "$answer" = 000 ] || echo "$address answers"
  done
}
case "$host" in
  localhost | 127.* | '[::1]')
    elsewhere=$(listening_elsewhere | sort -u | tr '\n' ';')
    if [ -z "$elsewhere" ]; then
      pass "port $port is open on loopback only"
    else
      failed "port $port is open beyond loopback: $elsewhere"
    fi
    ;;
  *) echo "SKIP binding: $host is not a loopback address; run this on the machine itself with http://127.0.0.1:PORT" ;;
esac

# A guess from a locked address is refused without being looked at; one that is looked at is 401.
expect_refused() {
  if [ "$status" = 429 ] && [ "$(code_of_refusal)" = AUTH_LOCKED ]; then
    pass "$1 → 429 AUTH_LOCKED"
  else
    expect 401 "$1"
  fi
}

# HARDSHELL may be several words.
# shellcheck disable=SC2086
hardshell() { ${HARDSHELL:-hardshell} "$@" </dev/null; }

check_rotation() {
  name="verify-$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')"
  if ! first=$(hardshell token new --name "$name" --scope read --expires 1h 2>"$work/said"); then
    failed "rotation: no throw-away token: $(tail -n 1 "$work/said")"
    return 0
  fi
  # Whatever happens from here on, the throw-away token does not stay.
  trap 'hardshell token revoke "$name" >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
  ask "$first" "$url$health"
  expect 200 'rotation: a new token'
  second=$(hardshell token rotate "$name" 2>"$work/said") || second=
  ask "$first" "$url$health"
  expect 200 'rotation: the old token in its grace'
  ask "$second" "$url$health"
  expect 200 'rotation: its successor'
  third=$(hardshell token rotate "$name" --now 2>"$work/said") || third=
  ask "$second" "$url$health"
  expect_refused 'rotation: the old token after a rotation without grace'
  ask "$third" "$url$health"
  expect 200 'rotation: the newest token'
  hardshell token revoke "$name" >/dev/null 2>"$work/said" || failed "rotation: $(tail -n 1 "$work/said")"
  ask "$third" "$url$health"
  expect_refused 'rotation: the revoked token'
}
[ -z "$rotation" ] || check_rotation

check_lockout() {
  tries=0
  status=
  while [ "$tries" -lt 20 ] && [ "$status" != 429 ]; do
    tries=$((tries + 1))
    ask "$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')" "$url$health"
  done
  if [ "$status" = 429 ] && [ "$(code_of_refusal)" = AUTH_LOCKED ] && [ -n "$(header retry-after)" ]; then
    pass "lockout: guess $tries → 429 AUTH_LOCKED with Retry-After: $(header retry-after)"
  else
    failed "lockout: guess $tries → $status $(code_of_refusal) (expected 429 AUTH_LOCKED with Retry-After)"
  fi
  ask "$token" "$url$health"
  expect 200 'lockout: the right token from the same address'
}
[ -z "$lockout" ] || check_lockout

# Burst, last because it uses up the minute: as many requests as are left, and some more.
ask "$token" "$url$health"
left=$(header ratelimit | sed -n 's/.*;[[:space:]]*r=\([0-9]*\).*/\1/p')
if [ -z "$left" ]; then
  failed 'burst: answers carry no RateLimit header, is security.rateLimiting.enabled false?'
elif [ "$left" -gt 5000 ]; then
  failed "burst: $left requests are left in this window, too many to try (limit for this check: 5000)"
else
  # A new window may open in between, hence a second round.
  for _ in 1 2; do
    : >"$work/head"
    run "$token" "$url$health?burst=[1-$((left + 5))]" >"$work/codes"
    last=$(tail -n 1 "$work/codes")
    [ "$last" = 429 ] && break
  done
  pause=$(header retry-after)
  if [ "$last" = 429 ] && [ -n "$pause" ]; then
    pass "burst → 429 with Retry-After: $pause, after $(grep -c '^200$' "$work/codes" || true) answers"
  elif [ "$last" = 429 ]; then
    failed 'burst → 429, but without Retry-After'
  else
    failed "burst → $last after $((left + 5)) requests (expected 429)"
  fi
fi

if [ "$failures" -gt 0 ]; then
  echo "verify: $failures failed" >&2
  exit 1
fi
