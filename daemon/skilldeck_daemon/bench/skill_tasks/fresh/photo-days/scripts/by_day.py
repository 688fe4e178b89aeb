"""by_day.py LIST [--zone HOURS]"""

import datetime
import sys
from collections import Counter

words = sys.argv[1:]
zone = int(words.pop(words.index("--zone") + 1)) if "--zone" in words else None
paths = [word for word in words if word != "--zone"]
if len(paths) != 1:
    print("usage: by_day.py LIST [--zone HOURS]", file=sys.stderr)
    sys.exit(2)
if zone is None:
    print("error: the times in this list have no zone, give --zone", file=sys.stderr)
    sys.exit(4)
days: Counter[str] = Counter()
with open(paths[0], encoding="utf-8") as file:
    for line in file:
        taken = datetime.datetime.fromisoformat(line.split()[0]) + datetime.timedelta(hours=zone)
        days[taken.date().isoformat()] += 1
for day, count in sorted(days.items()):
    print(f"{day}: {count}")
