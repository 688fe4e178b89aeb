grep -o 'ERROR [A-Z0-9-]*' "$1" | sort | uniq -c | sort -rn
