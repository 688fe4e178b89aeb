#!/usr/bin/env bash
# safe_name.sh NAME
[ $# -eq 1 ] || { echo 'usage: safe_name.sh "NAME"' >&2; exit 2; }
printf '%s\n' "$1" | tr 'A-Z' 'a-z' | sed -e 's/[^a-z0-9.]\{1,\}/-/g' -e 's/^-//' -e 's/-\././'
