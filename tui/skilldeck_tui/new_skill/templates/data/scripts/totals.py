#!/usr/bin/env python3
"""Adds up the columns of a CSV file that hold numbers."""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path


def totals(rows: list[dict[str, str]]) -> dict[str, float]:
    """The sum of each column whose values are all numbers or empty."""
    found: dict[str, float] = {}
    for column in rows[0]:
        try:
            found[column] = sum(float(row[column]) for row in rows if row[column])
        except (TypeError, ValueError):
            continue
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--output", type=Path, help="also write the totals here, as CSV")
    options = parser.parse_args()
    try:
        with options.file.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        print(f"{options.file} cannot be read: {error}", file=sys.stderr)
        return 2
    if not rows:
        print(f"{options.file} holds no rows below a header", file=sys.stderr)
        return 2
    found = totals(rows)
    print(f"rows: {len(rows)}")
    print("\n".join(f"{column}: {value:g}" for column, value in found.items()))
    if options.output:
        with options.output.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["column", "total"], *found.items()])
    return 0


if __name__ == "__main__":
    sys.exit(main())
