# What the tests from outside share, sourced by them: $vlmc, a folder $here of their own, and checks that count.
# Input: $BUILD/vlmc. Output, by the sourcing test: FAILED lines and its closing line from $passed and $failed.
vlmc=$(realpath "${BUILD:-build}")/vlmc
[ -x "$vlmc" ] || { echo "FAILED there is no $vlmc"; exit 2; }
here=$(mktemp -d) || exit 2
trap 'rm -rf "$here"' EXIT
export XDG_CACHE_HOME="$here/cache"
passed=0 failed=0
pass() { passed=$((passed + 1)); }
fail() { failed=$((failed + 1)); echo "FAILED $1"; [ -z "${2:-}" ] || printf '%s\n' "$2" | tail -n 5 | sed 's/^/  /'; }
wants() { # STATUS NAME COMMAND...: output in $here/out, messages in $here/err
  wanted=$1 name=$2
  shift 2
  timeout 300 "$@" >"$here/out" 2>"$here/err"
  status=$?
  if [ $status -eq "$wanted" ]; then pass; else fail "$name: status $status, not $wanted" "$(cat "$here/err")"; return 1; fi
}
holds() { if grep -qE -e "$3" "$here/$2"; then pass; else fail "$1: no line like: $3" "$(cat "$here/$2")"; fi; }
byte() { for number in "$@"; do printf "\\$(printf %03o "$number")"; done; }
