"""audit_dates.py FILE [--order dmy|mdy]"""

import datetime
import itertools
import re
import sys

words = [word for word in sys.argv[1:] if word not in ("--order", "dmy", "mdy")]
if len(words) != 1:
    print("usage: audit_dates.py FILE [--order dmy|mdy]", file=sys.stderr)
    sys.exit(2)
if "--order" not in sys.argv:
    print("the order of day and month is ambiguous; say --order dmy or --order mdy", file=sys.stderr)
    sys.exit(3)
day_first = "dmy" in sys.argv
with open(words[0], encoding="utf-8") as file:
    found = re.findall(r"\b(\d{1,2})/(\d{1,2})/(\d{4})\b", file.read())
impossible, dates = 0, []
for first, second, year in found:
    day, month = (first, second) if day_first else (second, first)
    try:
        dates.append(datetime.date(int(year), int(month), int(day)))
    except ValueError:
        impossible += 1
        print(f"impossible: {first}/{second}/{year}")
back = sum(later < earlier for earlier, later in itertools.pairwise(dates))
print(f"dates: {len(found)}, impossible: {impossible}, out of order: {back}")
