"""Which questions were left without an answer."""

import argparse
import csv

parser = argparse.ArgumentParser()
parser.add_argument("table")
parser.add_argument("--share", type=float, default=0.0)
asked = parser.parse_args()
with open(asked.table, newline="") as file:
    rows = list(csv.DictReader(file))
for question in rows[0]:
    missing = sum(not row[question].strip() for row in rows)
    if missing and missing / len(rows) >= asked.share:
        print(f"{question}: {missing} of {len(rows)} left it out")
