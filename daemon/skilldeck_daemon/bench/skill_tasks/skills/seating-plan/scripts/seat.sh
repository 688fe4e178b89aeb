#!/bin/bash
# seat.sh GUESTS SEATS
[ $# -eq 2 ] || { echo "usage: seat.sh GUESTS SEATS" >&2; exit 2; }
exec python3 "$(dirname "$0")/seat.py" "$1" "$2"
