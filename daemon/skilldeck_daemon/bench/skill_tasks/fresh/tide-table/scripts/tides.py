"""tides.py READINGS"""

import sys

if len(sys.argv) != 2:
    print("usage: tides.py READINGS", file=sys.stderr)
    sys.exit(2)
with open(sys.argv[1], encoding="utf-8") as file:
    rows = [(time, float(level)) for time, level in (line.split() for line in file)]
for before, here, after in zip(rows, rows[1:], rows[2:], strict=False):
    if before[1] < here[1] >= after[1]:
        print(f"{here[0]} high water, {here[1]} m")
    if before[1] > here[1] <= after[1]:
        print(f"{here[0]} low water, {here[1]} m")
