"""agenda.py FILE"""

import sys

if len(sys.argv) != 2:
    print("usage: agenda.py FILE", file=sys.stderr)
    sys.exit(2)
events: list[tuple[str, str]] = []
event: dict[str, str] = {}
with open(sys.argv[1], encoding="utf-8") as file:
    for line in file.read().splitlines():
        key, _, value = line.partition(":")
        if line == "BEGIN:VEVENT":
            event = {}
        elif line == "END:VEVENT":
            events.append((event["DTSTART"], event["SUMMARY"]))
        event[key.partition(";")[0]] = value
day = ""
for start, summary in sorted(events):
    if start[:8] != day:
        day = start[:8]
        print(f"{day[:4]}-{day[4:6]}-{day[6:]}")
    print(f"  {start[9:11]}:{start[11:13]} {summary}")
print(f"{len(events)} appointments")
