"""league.py RESULTS"""

import sys
from collections import Counter

if len(sys.argv) != 2:
    print("usage: league.py RESULTS", file=sys.stderr)
    sys.exit(2)
points: Counter[str] = Counter()
with open(sys.argv[1], encoding="utf-8") as file:
    for line in file:
        home, away, score = line.strip().split(",")
        ours, theirs = map(int, score.split(":"))
        points[home] += 3 if ours > theirs else 1 if ours == theirs else 0
        points[away] += 3 if theirs > ours else 1 if ours == theirs else 0
for place, (team, count) in enumerate(points.most_common(), 1):
    print(f"{place}. {team} {count}")
