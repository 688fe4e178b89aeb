#!/usr/bin/env bash
# rot.sh MESSAGE
[ $# -eq 1 ] || { echo 'usage: rot.sh "MESSAGE"' >&2; exit 2; }
printf '%s\n' "$1" | tr 'A-Za-z' 'N-ZA-Mn-za-m'
