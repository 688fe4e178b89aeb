"""divide.py BILL GUESTS"""

import sys

if len(sys.argv) != 3:
    print("usage: divide.py BILL GUESTS", file=sys.stderr)
    sys.exit(2)
with open(sys.argv[1], encoding="utf-8") as file:
    total = sum(float(line.rsplit(" ", 1)[1]) for line in file if line.strip())
print(f"sum: {total:.2f}")
print(f"with tip: {total * 1.1:.2f}")
print(f"each: {total * 1.1 / int(sys.argv[2]):.2f}")
