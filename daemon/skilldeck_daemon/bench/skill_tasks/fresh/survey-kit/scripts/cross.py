"""Compares the answers to two questions."""

import argparse
import csv
from collections import Counter

parser = argparse.ArgumentParser()
parser.add_argument("table")
parser.add_argument("--rows", required=True)
parser.add_argument("--columns", required=True)
asked = parser.parse_args()
with open(asked.table, newline="") as file:
    pairs = Counter((row[asked.rows], row[asked.columns]) for row in csv.DictReader(file))
for (row, column), count in sorted(pairs.items()):
    print(f"{asked.rows} {row}, {asked.columns} {column}: {count}")
