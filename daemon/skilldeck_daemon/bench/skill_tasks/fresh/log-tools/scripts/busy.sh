grep ' pass ' "$1" | cut -c1-2 | sort | uniq -c | sort -rn | awk '{print $2 ":00", $1, "passages"}'
