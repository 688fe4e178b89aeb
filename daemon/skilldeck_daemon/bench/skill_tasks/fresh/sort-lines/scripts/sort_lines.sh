#!/usr/bin/env bash
# sort_lines.sh LIST [--reverse] [--unique]
file="" flags=()
for word in "$@"; do
  case $word in
    --reverse) flags+=(-r) ;;
    --unique) flags+=(-u) ;;
    *) file=$word ;;
  esac
done
[ -n "$file" ] || { echo "usage: sort_lines.sh LIST [--reverse] [--unique]" >&2; exit 2; }
LC_ALL=C sort "${flags[@]}" -- "$file"
