"""departures.py TIMETABLE"""

import sys
from collections import defaultdict

if len(sys.argv) != 2:
    print("usage: departures.py TIMETABLE", file=sys.stderr)
    sys.exit(2)
stops: dict[str, list[str]] = defaultdict(list)
with open(sys.argv[1], encoding="utf-8") as file:
    for line in file:
        time, line_number, stop = line.strip().split(";")
        stops[stop].append(f"{time} line {line_number}")
for stop, times in stops.items():
    print(stop)
    for time in sorted(times):
        print(f"  {time}")
