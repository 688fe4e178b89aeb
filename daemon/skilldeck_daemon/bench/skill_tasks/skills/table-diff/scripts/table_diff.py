"""table_diff.py OLD NEW"""

import csv
import sys

if len(sys.argv) != 3:
    print("usage: table_diff.py OLD NEW", file=sys.stderr)
    sys.exit(2)
tables = []
for path in sys.argv[1:]:
    with open(path, encoding="utf-8", newline="") as file:
        tables.append({row[0]: row for row in csv.reader(file)})
old, new = tables
for key in new.keys() - old.keys():
    print(f"new: {', '.join(new[key])}")
for key in old.keys() - new.keys():
    print(f"gone: {', '.join(old[key])}")
for key in old.keys() & new.keys():
    if old[key] != new[key]:
        print(f"changed: {', '.join(old[key])} -> {', '.join(new[key])}")
if old == new:
    print("nothing changed")
