"""check_rotation.py LISTING"""

import sys

LIMIT = 50_000_000
if len(sys.argv) != 2:
    print("usage: check_rotation.py LISTING", file=sys.stderr)
    sys.exit(2)
total = 0
with open(sys.argv[1], encoding="utf-8") as file:
    for line in file:
        parts = line.split()
        if len(parts) >= 9:
            total += int(parts[4])
            if int(parts[4]) > LIMIT:
                print(f"too large: {parts[8]} has {int(parts[4]) / 1e6:.0f} MB")
print(f"total: {total / 1e6:.0f} MB")
