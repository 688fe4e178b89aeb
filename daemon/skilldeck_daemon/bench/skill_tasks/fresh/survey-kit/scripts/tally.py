"""How often each answer was given."""

import argparse
import csv
from collections import Counter

parser = argparse.ArgumentParser()
parser.add_argument("table")
parser.add_argument("--question")
asked = parser.parse_args()
with open(asked.table, newline="") as file:
    rows = list(csv.DictReader(file))
for question in [asked.question] if asked.question else rows[0]:
    counts = Counter(row[question] or "(none)" for row in rows)
    print(f"{question}: " + ", ".join(f"{answer} {count}" for answer, count in counts.most_common()))
