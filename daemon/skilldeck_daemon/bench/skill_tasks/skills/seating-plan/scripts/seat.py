"""seat.py GUESTS SEATS: each guest to the first table where nobody is in the way."""

import sys

apart: dict[str, set[str]] = {}
with open(sys.argv[1], encoding="utf-8") as file:
    for line in file:
        name, *rest = line.split()
        apart[name] = {word.lstrip("!") for word in rest}
tables: list[list[str]] = []
for guest in apart:
    for table in tables:
        if len(table) < int(sys.argv[2]) and not any(o in apart[guest] or guest in apart[o] for o in table):
            table.append(guest)
            break
    else:
        tables.append([guest])
for number, table in enumerate(tables, 1):
    print(f"table {number}: {', '.join(table)}")
