"""groups.py ACCOUNT"""

import sys
from collections import defaultdict

if len(sys.argv) != 2:
    print("usage: groups.py ACCOUNT", file=sys.stderr)
    sys.exit(2)
sums: dict[str, float] = defaultdict(float)
with open(sys.argv[1], encoding="utf-8") as file:
    for line in file:
        group, _, amount = line.strip().split(",")
        sums[group] += float(amount)
for group, total in sorted(sums.items()):
    print(f"{group}: {total:.2f}")
