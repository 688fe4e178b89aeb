"""to_csv.py INPUT OUTPUT"""

import csv
import json
import sys

if len(sys.argv) != 3:
    print("usage: to_csv.py INPUT OUTPUT", file=sys.stderr)
    sys.exit(2)
with open(sys.argv[1], encoding="utf-8") as file:
    rows = json.load(file)
columns = list(dict.fromkeys(key for row in rows for key in row))
with open(sys.argv[2], "w", encoding="utf-8", newline="") as file:
    table = csv.DictWriter(file, columns)
    table.writeheader()
    table.writerows(rows)
print(f"wrote {sys.argv[2]}: {len(rows)} rows, {len(columns)} columns")
