# What the tests from outside share, sourced by them: $vlmc, a folder $here of their own, and checks that count.
# Input: $BUILD/vlmc. Output, by the sourcing test, which ends with `finish`: lines FAILED and skipped, the closing line.
vlmc=$(realpath "${BUILD:-build}")/vlmc
[ -x "$vlmc" ] || [ "${unbuilt:-}" ] || { echo "FAILED there is no $vlmc"; exit 2; } # unbuilt=fine: a test that can do without
here=$(mktemp -d) || exit 2
trap 'rm -rf "$here"' EXIT
export XDG_CACHE_HOME="$here/cache"
passed=0 failed=0 skipped=0
pass() { passed=$((passed + 1)); }
fail() { failed=$((failed + 1)); echo "FAILED $1"; [ -z "${2:-}" ] || printf '%s\n' "$2" | tail -n 12 | sed 's/^/  /'; }
skip() { skipped=$((skipped + 1)); echo "skipped: $1"; }
finish() { # call last
  echo "$passed passed, $failed failed, $skipped skipped"
  [ $failed -eq 0 ]
}
wants() { # STATUS NAME COMMAND...: output in $here/out, messages in $here/err
  wanted=$1 name=$2
  shift 2
  timeout 300 "$@" >"$here/out" 2>"$here/err"
  status=$?
  if [ $status -eq "$wanted" ]; then pass; else fail "$name: status $status, not $wanted" "$(cat "$here/err")"; return 1; fi
}
good() { wants 0 "$@"; }
holds() { if grep -qE -e "$3" "$here/$2"; then pass; else fail "$1: no line like: $3" "$(cat "$here/$2")"; fi; } # NAME FILE PATTERN
same() { if cmp -s "$2" "$3"; then pass; else fail "$1: $(basename "$2") and $(basename "$3") differ" "$(diff "$2" "$3" | head -n 6)"; fi; }
gone() { if [ -e "$2" ]; then fail "$1: $2 was left behind"; else pass; fi; }
byte() { for number in "$@"; do printf "\\$(printf %03o "$number")"; done; }
