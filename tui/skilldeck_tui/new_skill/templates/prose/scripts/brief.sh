#!/bin/sh
# Prints the rules and the draft, with how many words it has.
[ -r "${1:-}" ] || { echo "${1:-the draft} cannot be read" >&2; exit 2; }
cat "$(dirname "$0")/../references/rules.md"
echo "draft: $(wc -w <"$1" | tr -d ' ') words"
cat "$1"
