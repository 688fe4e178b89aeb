"""sort_changes.py CHANGES OUTPUT: each line is `kind: text`."""

import json
import sys

kinds: dict[str, list[str]] = {}
with open(sys.argv[1], encoding="utf-8") as file:
    for line in file:
        kind, mark, text = line.partition(":")
        if mark:
            kinds.setdefault(kind.strip(), []).append(text.strip())
with open(sys.argv[2], "w", encoding="utf-8") as file:
    json.dump(kinds, file)
print(f"sorted {sum(map(len, kinds.values()))} changes into {sys.argv[2]}; now write the notes")
