"""find_low.py STOCK LOW"""

import sys

if len(sys.argv) != 3:
    print("usage: find_low.py STOCK LOW", file=sys.stderr)
    sys.exit(2)
low = []
with open(sys.argv[1], encoding="utf-8") as file:
    for line in file:
        name, has, wants = (part.strip() for part in line.split(";"))
        if int(has) < int(wants):
            low.append(f"{name};{int(wants) - int(has)}")
with open(sys.argv[2], "w", encoding="utf-8") as file:
    file.write("".join(f"{line}\n" for line in low))
print(f"{len(low)} things are low, listed in {sys.argv[2]}")
