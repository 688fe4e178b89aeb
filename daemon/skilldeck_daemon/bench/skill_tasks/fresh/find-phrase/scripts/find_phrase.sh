#!/usr/bin/env bash
# find_phrase.sh PHRASE FILE
[ $# -eq 2 ] || { echo 'usage: find_phrase.sh "PHRASE" FILE' >&2; exit 2; }
grep -n -i -F -- "$1" "$2" || { echo "nothing found"; exit 0; }
