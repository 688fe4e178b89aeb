#!/usr/bin/env python3
"""Check an invoice's arithmetic and data: line amounts, subtotal, tax, total, dates, IBAN.

Reads three forms: plain text (columns parted by two spaces, a tab or a bar; description, quantity, unit price, amount),
JSON, and UBL 2.1 XML e-invoices. Amounts are decimals, never floats; a difference of up to half a cent for each rounded
amount is let pass. Exit status 0 with a report, whatever it says (1 with --strict when it holds problems), and 2 when
the file is no invoice that can be read.
"""

from __future__ import annotations

import argparse
import json
import sys
from decimal import ROUND_HALF_UP, Decimal

sys.dont_write_bytecode = True  # a run leaves the skill folder as it was
from invoice import CENT, Invoice, read_invoice  # noqa: E402
from textfile import BadInput, read_text, run, short  # noqa: E402

SHOWN_PROBLEMS = 6


def cents(value: Decimal) -> Decimal:
    """`value` rounded to cents, as invoices round."""
    return value.quantize(CENT, ROUND_HALF_UP)


def money(value: Decimal | None, currency: str = "") -> str:
    """An amount with two decimals and its currency."""
    return "not stated" if value is None else f"{cents(value)} {currency}".rstrip()


def check_lines(invoice: Invoice) -> list[str]:
    """What is wrong with the single lines."""
    problems = []
    seen: dict[tuple[str, Decimal, Decimal], int] = {}
    for number, line in enumerate(invoice.lines, 1):
        name = f"line {number} ({short(line.description, 24)})"
        expected = cents(line.quantity * line.price)
        if expected != cents(line.amount):
            problems.append(f"{name}: {line.quantity} x {line.price} is {expected}, not {cents(line.amount)}")
        key = (line.description.lower(), line.quantity, line.price)
        if key in seen:
            problems.append(f"{name}: the same as line {seen[key]}")
        seen.setdefault(key, number)
    return problems


def check(invoice: Invoice) -> list[str]:
    """Everything that is wrong with an invoice, each in one line."""
    problems = check_lines(invoice)
    if not invoice.number:
        problems.append("number: missing")
    if invoice.issued is None:
        problems.append("date: missing")
    if invoice.issued and invoice.due and invoice.due < invoice.issued:
        problems.append(f"due date: {invoice.due} is before the invoice date {invoice.issued}")
    total_of_lines = sum((cents(line.amount) for line in invoice.lines), Decimal(0))
    base = total_of_lines if invoice.subtotal is None else invoice.subtotal
    if invoice.subtotal is not None and invoice.subtotal != total_of_lines:
        problems.append(f"subtotal: the lines add up to {total_of_lines}, not {cents(invoice.subtotal)}")
    tax = invoice.tax
    if invoice.rate is not None:
        expected = cents((base - (invoice.discount or 0)) * invoice.rate / 100)
        if tax is not None and abs(tax - expected) > CENT:
            problems.append(f"tax: {invoice.rate.normalize():f} % of {cents(base)} is {expected}, not {cents(tax)}")
        tax = expected if tax is None else tax
    expected = base - (invoice.discount or 0) + (tax or 0) + (invoice.shipping or 0)
    if invoice.total is None:
        problems.append("total: missing")
    elif abs(invoice.total - expected) >= CENT:
        problems.append(f"total: the parts add up to {cents(expected)}, not {cents(invoice.total)}")
    if invoice.iban and not iban_holds(invoice.iban):
        problems.append("IBAN: its check digits are wrong")
    return problems


def iban_holds(iban: str) -> bool:
    """ISO 13616: the first four characters moved to the end, letters as numbers, modulo 97 is 1."""
    text = "".join(iban.split()).upper()
    if not 15 <= len(text) <= 34 or not (text.isascii() and text.isalnum() and text[:2].isalpha()):
        return False
    return int("".join(str(int(character, 36)) for character in text[4:] + text[:4])) % 97 == 1


def main() -> int:
    parser = argparse.ArgumentParser(description="Check an invoice: amounts, tax, totals, dates and IBAN.")
    parser.add_argument("file", help="the invoice: plain text, JSON, or UBL XML")
    parser.add_argument("--full", action="store_true", help="every problem")
    parser.add_argument("--json", action="store_true", help="all facts as JSON")
    parser.add_argument("--strict", action="store_true", help="exit with status 1 when there are problems")
    options = parser.parse_args()
    invoice = read_invoice(read_text(options.file, limit=8 << 20))
    if not invoice.lines:
        raise BadInput("no invoice lines found; expected rows of description, quantity, unit price, amount")
    problems = check(invoice)
    verdict = "correct" if not problems else f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    if options.json:
        facts = {**invoice.facts(), "problems": problems}
        print(json.dumps(facts, indent=2, ensure_ascii=False))
        return int(options.strict and bool(problems))
    print(f"invoice: {short(invoice.number, 40) or 'not stated'}")
    print(f"date: {invoice.issued or 'not stated'}" + (f", due {invoice.due}" if invoice.due else ""))
    print(f"lines: {len(invoice.lines)}")
    print(f"total: {money(invoice.total, invoice.currency)}")
    print(f"result: {verdict}")
    shown = problems if options.full else problems[:SHOWN_PROBLEMS]
    for problem in shown:
        print(short(problem, 100))
    if len(shown) < len(problems):
        print(f"more problems: {len(problems) - len(shown)}")
    return int(options.strict and bool(problems))


if __name__ == "__main__":
    run(main)
