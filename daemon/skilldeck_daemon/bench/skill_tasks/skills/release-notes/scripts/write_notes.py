"""write_notes.py SORTED OUTPUT"""

import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    kinds = json.load(file)
with open(sys.argv[2], "w", encoding="utf-8") as file:
    for kind, changes in kinds.items():
        file.write(f"## {kind}\n\n" + "".join(f"- {change}\n" for change in changes) + "\n")
for kind, changes in kinds.items():
    print(f"{kind}: {len(changes)}")
print(f"notes written to {sys.argv[2]}")
