"""hours.py FILE [--rate RATE]"""

import re
import sys

words = sys.argv[1:]
rate = float(words.pop(words.index("--rate") + 1)) if "--rate" in words else None
paths = [word for word in words if word != "--rate"]
if len(paths) != 1:
    print("usage: hours.py FILE [--rate RATE]", file=sys.stderr)
    sys.exit(2)
hours = cost = 0.0
with open(paths[0], encoding="utf-8") as file:
    for line in file:
        found = re.match(r"(\w+)\s+([\d.]+) h(?: at ([\d.]+))?", line)
        if not found:
            continue
        paid = float(found[3]) if found[3] else rate
        if paid is None:
            print(f"{found[1]} has no rate: run again with --rate", file=sys.stderr)
            sys.exit(3)
        hours += float(found[2])
        cost += float(found[2]) * paid
print(f"hours: {hours:g}")
print(f"sum: {cost:.2f}")
