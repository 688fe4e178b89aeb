"""repeated.py FILE [--fold] [--top N] [--output PATH]"""

import argparse
from collections import Counter

parser = argparse.ArgumentParser()
parser.add_argument("file")
parser.add_argument("--fold", action="store_true")
parser.add_argument("--top", type=int)
parser.add_argument("--output")
asked = parser.parse_args()
with open(asked.file, encoding="utf-8") as file:
    lines = [line.strip() for line in file if line.strip()]
if asked.fold:
    lines = [line.lower() for line in lines]
found = [(line, count) for line, count in Counter(lines).most_common(asked.top) if count > 1]
for line, count in found:
    print(f"{line}: {count} times")
print(f"{len(found)} lines are repeated")
if asked.output:
    with open(asked.output, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in dict.fromkeys(lines))
    print(f"saved {asked.output}")
