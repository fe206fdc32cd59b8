#!/bin/sh
# Runs every test program it is given and adds up their closing lines; a crash counts as one failure.
passed=0 failed=0 skipped=0
for test in "$@"; do
  log="$test.log"
  start=$(date +%s)
  timeout 600 "$test" >"$log" 2>&1
  status=$?
  line=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$log" | tail -n 1)
  set -- $(printf '%s' "$line" | tr -cd '0-9 ')
  [ "$status" -le 1 ] && [ -n "$line" ] || { set -- "${1:-0}" "$((${2:-0} + 1))" "${3:-0}"; echo "$test: ended with status $status"; }
  passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + ${3:-0}))
  grep -E 'FAILED|^skipped|ERROR: ' "$log"
  [ "$status" -eq 0 ] || tail -n 15 "$log"
  printf '%-40s %s (%s s)\n' "$(basename "$test")" "$line" "$(($(date +%s) - start))"
done
if [ "$skipped" -gt 0 ]; then echo "$passed passed, $failed failed, $skipped skipped"; else echo "$passed passed, $failed failed"; fi
[ "$failed" -eq 0 ]
