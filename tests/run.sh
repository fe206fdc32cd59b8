#!/bin/sh
# Runs every test (a program or a script) that it is given and adds up their closing lines. A crash, and a test that ends
# with an error though it counts none, is one failure. Logs go to $BUILD/tests.
build=${BUILD:-build}
passed=0 failed=0 skipped=0
for test in "$@"; do
  name=$(basename "$test")
  log="$build/tests/$name.log"
  start=$(date +%s)
  case $test in
  *.sh) BUILD=$build timeout 900 sh "$test" >"$log" 2>&1 ;;
  *) timeout 600 "$test" >"$log" 2>&1 ;;
  esac
  status=$?
  line=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$log" | tail -n 1)
  good=$(echo "$line" | sed -n 's/^\([0-9]*\) passed.*/\1/p') bad=$(echo "$line" | sed -n 's/.* \([0-9]*\) failed.*/\1/p')
  skip=$(echo "$line" | sed -n 's/.* \([0-9]*\) skipped.*/\1/p')
  if [ "$status" -gt 1 ] || [ -z "$line" ] || { [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; }; then
    bad=$((${bad:-0} + 1))
    echo "$name: ended with status $status"
  fi
  passed=$((passed + ${good:-0})) failed=$((failed + ${bad:-0})) skipped=$((skipped + ${skip:-0}))
  grep -E 'FAILED|^skipped|ERROR: ' "$log" | head -n 40
  [ "$status" -eq 0 ] || tail -n 15 "$log"
  printf '%-28s %s (%s s)\n' "$name" "$line" "$(($(date +%s) - start))"
done
if [ "$skipped" -gt 0 ]; then echo "$passed passed, $failed failed, $skipped skipped"; else echo "$passed passed, $failed failed"; fi
[ "$failed" -eq 0 ]
