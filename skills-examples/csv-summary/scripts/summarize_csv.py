#!/usr/bin/env python3
"""Summarize a delimited table: rows, columns, types, missing values, totals.

Reads the table once, row by row. Per column it keeps counts, and the numbers themselves for the median; distinct
values are counted up to 100,000. Exit status 0 with a summary, 2 when the file is no usable table.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import statistics
import sys
from array import array
from collections import Counter
from decimal import Decimal, InvalidOperation
from itertools import islice
from typing import Any

sys.dont_write_bytecode = True  # a run leaves the skill folder as it was
from textfile import BadInput, open_text, run, short  # noqa: E402

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
MISSING = {"", "na", "n/a", "null", "none", "nan", "-", "?"}
DATE = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:[T ]\d{1,2}:\d{2}.*)?$")
NUMBER = re.compile(r"[-+]?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,2})?$")
NUMBER_COMMA = re.compile(r"[-+]?(?:(?:\d{1,3}(?:\.\d{3})+|\d+),\d*|\d{1,3}(?:\.\d{3}){2,})$")
IDENTIFIER = re.compile(r"(?:.*[ _.-])?(?:id|nr|number|code|zip|year)$|.*[a-z]Id$")
DISTINCT_LIMIT = 100_000
SHOWN_COLUMNS = 7


class Column:
    """What is known about one column after some rows."""

    def __init__(self, name: str, decimal_comma: bool) -> None:
        self.name = name
        self.decimal_comma = decimal_comma
        self.missing = 0
        self.filled = 0
        self.numbers = 0
        self.integers = 0
        self.dates = 0
        self.total = Decimal(0)
        self.values = array("d")
        self.least: Decimal | None = None
        self.most: Decimal | None = None
        self.first_date = ""
        self.last_date = ""
        self.distinct: Counter[str] = Counter()

    def add(self, cell: str) -> None:
        """Take in one cell."""
        cell = cell.strip()
        if cell.lower() in MISSING:
            self.missing += 1
            return
        self.filled += 1
        if len(self.distinct) < DISTINCT_LIMIT or cell in self.distinct:
            self.distinct[cell[:200]] += 1
        if self.numbers == self.filled - 1:
            self.add_number(cell)
        found = DATE.match(cell)
        if found and int(found[2]) <= 12 and int(found[3]) <= 31:
            day = f"{found[1]}-{int(found[2]):02d}-{int(found[3]):02d}"
            self.dates += 1
            self.first_date = min(self.first_date or day, day)
            self.last_date = max(self.last_date, day)

    def add_number(self, cell: str) -> None:
        """Count `cell` as a number if it is one; numbers with a leading zero, such as postal codes, are text."""
        plain = cell.strip("$€£% ") if len(cell) < 64 else ""
        if self.decimal_comma and NUMBER_COMMA.match(plain):
            plain = plain.replace(".", "").replace(",", ".")
        elif NUMBER.match(plain):
            plain = plain.replace(",", "")
        else:
            return
        if len(plain) > 1 and plain[0] == "0" and plain.isdigit():
            return
        try:
            value = Decimal(plain)
        except InvalidOperation:
            return
        self.numbers += 1
        self.integers += value == value.to_integral_value()
        self.total += value
        self.values.append(float(value))
        self.least = value if self.least is None else min(self.least, value)
        self.most = value if self.most is None else max(self.most, value)

    def kind(self) -> str:
        """empty, id, integer, number, date or text; an id is a whole number that nobody would add up."""
        if not self.filled:
            return "empty"
        if self.integers == self.filled and IDENTIFIER.match(self.name if "Id" in self.name else self.name.lower()):
            return "id"
        if self.numbers == self.filled:
            return "integer" if self.integers == self.filled else "number"
        return "date" if self.dates == self.filled else "text"

    def facts(self) -> dict[str, object]:
        """The column as plain data."""
        facts: dict[str, object] = {"name": self.name, "type": self.kind(), "filled": self.filled}
        facts["missing"] = self.missing
        facts["distinct"] = len(self.distinct)
        if self.kind() == "id":
            facts["min"], facts["max"] = plain_number(self.least or Decimal(0)), plain_number(self.most or Decimal(0))
        elif self.kind() in ("integer", "number"):
            facts["sum"] = plain_number(self.total)
            facts["mean"] = plain_number(self.total / self.filled)
            facts["median"] = plain_number(Decimal(repr(statistics.median(self.values))))
            facts["min"] = plain_number(self.least or Decimal(0))
            facts["max"] = plain_number(self.most or Decimal(0))
        elif self.kind() == "date":
            facts["first"], facts["last"] = self.first_date, self.last_date
        elif self.kind() == "text":
            value, count = min(self.distinct.items(), key=lambda pair: (-pair[1], pair[0]))
            facts["most_common"], facts["most_common_count"] = short(value, 30), count
        return facts

    def line(self, full: bool) -> str:
        """The column as one line of the summary."""
        facts = self.facts()
        head = f"{short(self.name, 24)} ({facts['type']}):"
        if "sum" in facts:
            line = f"{head} sum {facts['sum']}, mean {facts['mean']}, min {facts['min']}, max {facts['max']}"
            return line + (f", median {facts['median']}" if full else "")
        more = "+" if len(self.distinct) >= DISTINCT_LIMIT else ""
        if facts["type"] == "id":
            return f"{head} {facts['distinct']}{more} distinct, {facts['min']} to {facts['max']}"
        if "first" in facts:
            return f"{head} {facts['first']} to {facts['last']}"
        if "most_common" in facts:
            top = f", most often {facts['most_common']} ({facts['most_common_count']})"
            return f"{head} {facts['distinct']}{more} distinct" + (top if self.filled > len(self.distinct) else "")
        return f"{head} no values"


def plain_number(value: Decimal) -> str:
    """At most two decimals (four below one), without trailing zeros."""
    text = f"{value:.{4 if abs(value) < 1 else 2}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def guess_delimiter(lines: list[str]) -> str:
    """The delimiter that splits most of the first lines into the same number (above one) of cells."""
    best, best_score = ",", (0, 0)
    for delimiter in DELIMITERS:
        widths = Counter(len(row) for row in csv.reader(lines, delimiter=delimiter) if row)
        wide = [(count, width) for width, count in widths.items() if width > 1]
        if wide and max(wide) > best_score:
            best, best_score = delimiter, max(wide)
    return best


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Summarize a CSV or TSV table.")
    parser.add_argument("file", help="the table: comma, semicolon, tab or pipe separated text")
    parser.add_argument(
        "--delimiter", metavar="CHAR", help="cell separator, when the guess is wrong (write tab for a tab)"
    )
    parser.add_argument(
        "--no-header", action="store_true", help="the first row is data; columns get the names column1, ..."
    )
    parser.add_argument("--full", action="store_true", help="every column, with medians")
    parser.add_argument("--json", action="store_true", help="all facts as JSON")
    return parser.parse_args()


def main() -> int:
    options = parse_arguments()
    csv.field_size_limit(1 << 30)
    with open_text(options.file, newline="") as stream:
        head = [line for line in islice(stream, 50) if line.strip()]
        if not head:
            raise BadInput("the file holds only blank lines, no table")
        if head[0].lstrip()[:1] in ("{", "[", "<"):
            raise BadInput("the file looks like JSON or XML, not like a delimited table")
        delimiter = "\t" if options.delimiter in ("tab", "\\t") else options.delimiter
        hinted = re.match(r"sep=(.)\s*$", head[0])
        if delimiter is None:
            delimiter = hinted[1] if hinted else guess_delimiter(head)
        if len(delimiter) != 1 or delimiter in '"\r\n':
            raise BadInput(f"--delimiter takes one character, not {short(repr(delimiter), 20)}")
        stream.seek(0)
        if hinted:
            stream.readline()
        try:
            return summarize(csv.reader(stream, delimiter=delimiter), delimiter, options)
        except csv.Error as problem:
            raise BadInput(f"the table cannot be read: {problem}") from None


def summarize(reader: Any, delimiter: str, options: argparse.Namespace) -> int:
    """Read all rows of `reader` and print the summary."""
    decimal_comma = delimiter == ";"
    columns: list[Column] = []
    rows = duplicates = ragged = first_ragged = 0
    seen = set()
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        if not columns:
            header = [f"column{n}" for n in range(1, len(row) + 1)] if options.no_header else row
            columns = [Column(short(c, 60) or f"column{n}", decimal_comma) for n, c in enumerate(header, 1)]
            if not options.no_header:
                continue
        rows += 1
        if len(row) != len(columns):
            ragged += 1
            first_ragged = first_ragged or reader.line_num
        key = hash(tuple(row))
        duplicates += key in seen
        seen.add(key)
        for number, column in enumerate(columns):
            column.add(row[number] if number < len(row) else "")
    if options.json:
        facts = {
            "rows": rows,
            "delimiter": DELIMITERS.get(delimiter, delimiter),
            "duplicate_rows": duplicates,
            "ragged_rows": ragged,
            "columns": [column.facts() for column in columns],
        }
        print(json.dumps(facts, indent=2, ensure_ascii=False))
        return 0
    print(f"rows: {rows}")
    print(f"columns: {len(columns)}")
    missing = [f"{short(c.name, 20)} {c.missing}" for c in columns if c.missing]
    total = sum(column.missing for column in columns)
    extra = f", {len(missing) - 4} more" if len(missing) > 4 else ""
    print(f"missing values: {total}" + (f" ({', '.join(missing[:4])}{extra})" if missing else ""))
    print(f"duplicate rows: {duplicates}")
    if ragged:
        print(f"rows of another width: {ragged} (first on line {first_ragged})")
    shown = columns if options.full else columns[:SHOWN_COLUMNS]
    for column in shown:
        print(column.line(options.full))
    if len(shown) < len(columns):
        print(f"more columns: {len(columns) - len(shown)}")
    return 0


if __name__ == "__main__":
    run(main)
