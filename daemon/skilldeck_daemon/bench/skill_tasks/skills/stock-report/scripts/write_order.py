"""write_order.py LOW ORDER"""

import sys

if len(sys.argv) != 3:
    print("usage: write_order.py LOW ORDER", file=sys.stderr)
    sys.exit(2)
with open(sys.argv[1], encoding="utf-8") as file:
    wanted = [line.strip().split(";") for line in file if line.strip()]
with open(sys.argv[2], "w", encoding="utf-8") as file:
    file.write("Please send\n" + "".join(f"{count} x {name}\n" for name, count in wanted))
print(f"ordered {len(wanted)} things, {sum(int(count) for _, count in wanted)} pieces, in {sys.argv[2]}")
