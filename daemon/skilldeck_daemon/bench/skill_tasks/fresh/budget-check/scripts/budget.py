"""budget.py SPENDING [--limit SUM]"""

import argparse
import sys

parser = argparse.ArgumentParser()
parser.add_argument("spending")
parser.add_argument("--limit", type=float)
asked = parser.parse_args()
if asked.limit is None:
    sys.exit("no limit is known: give it by --limit")
with open(asked.spending, encoding="utf-8") as file:
    spent = sum(float(line.rsplit(" ", 1)[1]) for line in file if line.strip())
left = asked.limit - spent
print(f"spent {spent:.2f} of {asked.limit:.2f}: " + (f"{left:.2f} left" if left >= 0 else f"{-left:.2f} over"))
