awk -v limit="$2" '$2 == "pass" && $4 + 0 > limit {print $1, $3, $4}' "$1"
