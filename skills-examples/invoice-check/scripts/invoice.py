"""Reading an invoice out of plain text, JSON or UBL 2.1 XML into one form, `Invoice`."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

from textfile import BadInput, short

CENT = Decimal("0.01")
LARGEST = Decimal(10) ** 15
CURRENCIES = {"$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY"}
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
COLUMNS = re.compile(r"\s*\|\s*|\t+|\s{2,}")
IBAN = re.compile(r"\bIBAN\b\W*([A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30})", re.I)
LABELS = (
    ("due", re.compile(r"(?:payment )?due(?: date)?|payable by", re.I)),
    ("issued", re.compile(r"(?:invoice )?date|issued(?: on)?|date of issue", re.I)),
    ("number", re.compile(r"invoice(?: *(?:no\.?|number|nr\.?|#|id))?", re.I)),
    ("subtotal", re.compile(r"sub-?\s?total|net(?: amount| total)?", re.I)),
    ("tax", re.compile(r"(?:sales tax|vat|tax|gst)\b.*", re.I)),
    ("discount", re.compile(r"discount\b.*", re.I)),
    ("shipping", re.compile(r"(?:shipping|delivery|freight)\b.*", re.I)),
    ("total", re.compile(r"(?:grand )?total(?: due| amount)?|amount due|balance due", re.I)),
)


@dataclass
class Line:
    """One position of an invoice."""

    description: str
    quantity: Decimal
    price: Decimal
    amount: Decimal


@dataclass
class Invoice:
    """What an invoice states; None and empty where it states nothing. `rate` is the tax rate in percent."""

    number: str = ""
    issued: date | None = None
    due: date | None = None
    currency: str = ""
    iban: str = ""
    subtotal: Decimal | None = None
    discount: Decimal | None = None
    tax: Decimal | None = None
    rate: Decimal | None = None
    shipping: Decimal | None = None
    total: Decimal | None = None
    lines: list[Line] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """The invoice as data that JSON can hold."""
        plain = {name: value if value is None else str(value) for name, value in vars(self).items() if name != "lines"}
        lines = [{name: str(value) for name, value in vars(line).items()} for line in self.lines]
        return {**plain, "lines": lines}


def number_of(text: str) -> Decimal | None:
    """An amount such as `1,234.50`, `1.234,50`, `$ 12`, `-3`; None when `text` is no amount."""
    plain = re.sub(r"[\s$€£¥]|\b[A-Z]{3}\b", "", text[:60])
    if re.fullmatch(r"-?\d{1,3}(?:\.\d{3})*,\d{1,4}|-?\d+,\d{1,2}", plain):
        plain = plain.replace(".", "").replace(",", ".")
    elif re.fullmatch(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?", plain):
        plain = plain.replace(",", "")
    else:
        return None
    value = Decimal(plain)
    return value if abs(value) < LARGEST else None


def date_of(text: str) -> date | None:
    """A date such as 2025-03-14, 14.03.2025, 14 March 2025 or March 14, 2025; None when `text` holds none."""
    found = re.search(r"(\d{4})-(\d\d)-(\d\d)", text)
    parts = (found[1], found[2], found[3]) if found else None
    if not parts:
        found = re.search(r"\b(\d{1,2})\.(\d{1,2})\.(\d{4})\b", text)
        parts = (found[3], found[2], found[1]) if found else None
    if not parts:
        found = re.search(r"\b(\d{1,2})\.? ([A-Za-z]{3})[a-z]*\.?,? (\d{4})\b", text)
        parts = (found[3], found[2], found[1]) if found else None
    if not parts:
        found = re.search(r"\b([A-Za-z]{3})[a-z]*\.? (\d{1,2}),? (\d{4})\b", text)
        parts = (found[3], found[1], found[2]) if found else None
    if not parts:
        return None
    month = MONTHS.index(parts[1].lower()) + 1 if parts[1].lower() in MONTHS else parts[1]
    try:
        return date(int(parts[0]), int(month), int(parts[2]))
    except ValueError:
        return None


def read_invoice(text: str) -> Invoice:
    """The invoice in `text`; BadInput when the form is known and broken."""
    start = text.lstrip()[:1]
    if not start:
        raise BadInput("the file holds only blank space, no invoice")
    if start == "<":
        return read_ubl(text)
    return read_json(text) if start in ("{", "[") else read_plain(text)


def read_plain(text: str) -> Invoice:
    """An invoice as people write it: labelled lines, and rows of columns."""
    invoice = Invoice()
    for row in text.splitlines():
        row = row.strip()[:2000]
        found = IBAN.search(row)
        if found:
            invoice.iban = found[1]
            continue
        cells = [cell for cell in COLUMNS.split(row.strip("|").strip()) if cell]
        if len(cells) >= 4 and read_row(invoice, cells):
            continue
        read_label(invoice, row)
    symbol = next((character for character in text if character in CURRENCIES), "")
    code = re.search(r"\b(?:EUR|USD|GBP|CHF|SEK|NOK|DKK|PLN|CZK|CAD|AUD|JPY)\b", text)
    invoice.currency = code[0] if code else CURRENCIES.get(symbol, "")
    return invoice


def read_row(invoice: Invoice, cells: list[str]) -> bool:
    """Take in a row whose last three cells are amounts; whether it was one."""
    quantity = number_of(re.sub(r"\s*(?:h|hrs?|hours?|pcs?|units?|days?|kg|x)\.?$", "", cells[-3], flags=re.I))
    price, amount = number_of(cells[-2]), number_of(cells[-1])
    if quantity is None or price is None or amount is None:
        return False
    description = " ".join(cells[:-3] if len(cells) == 4 or not cells[0].isdigit() else cells[1:-3])
    invoice.lines.append(Line(short(description, 80), quantity, price, amount))
    return True


def read_label(invoice: Invoice, row: str) -> None:
    """Take in a labelled line such as `Subtotal: 120.00` or `VAT 19 %   22.80`; the first of each label counts."""
    found = re.match(r"(.*?)(?::\s*|\t+|\s{2,})(.*\S)$", row.strip("|").strip())
    label, value = (found[1], found[2]) if found else (row, "")
    if not found:
        number = re.match(r"(invoice(?: *(?:no\.?|number|nr\.?|#))?) *#? *(\S*\d\S*)$", row, re.I)
        if not number:
            return
        label, value = number[1], number[2]
    value = value.strip(" |\t:")
    name = next((name for name, pattern in LABELS if pattern.fullmatch(label.strip(" |*_"))), "")
    if name in ("due", "issued"):
        if getattr(invoice, name) is None:
            setattr(invoice, name, date_of(value))
    elif name == "number":
        invoice.number = invoice.number or short(value, 60)
    elif name:
        amounts = [number for number in (number_of(part) for part in COLUMNS.split(value)) if number is not None]
        if amounts and getattr(invoice, name) is None:
            setattr(invoice, name, abs(amounts[-1]) if name == "discount" else amounts[-1])
            rate = re.search(r"(\d+(?:[.,]\d+)?)\s*%", row)
            if name == "tax" and rate:
                invoice.rate = Decimal(rate[1].replace(",", "."))


def exact(value: Any, name: str) -> Decimal:
    """A JSON or XML value as a decimal; BadInput names the field."""
    try:
        if not isinstance(value, bool):
            number = Decimal(str(value).strip())
            if number.is_finite() and abs(number) < LARGEST:
                return number
    except InvalidOperation:
        pass
    raise BadInput(f"{name} is not an amount: {short(repr(value), 40)}")


def read_json(text: str) -> Invoice:
    """An invoice as JSON, with the fields of `Invoice`; a few usual other names are understood."""
    try:
        data = json.loads(text, parse_float=Decimal, parse_int=Decimal)
    except (json.JSONDecodeError, RecursionError) as problem:
        place = f" at line {problem.lineno}" if isinstance(problem, json.JSONDecodeError) else ""
        raise BadInput(f"not valid JSON{place}") from None
    data = data.get("invoice", data) if isinstance(data, dict) else data
    if not isinstance(data, dict):
        raise BadInput("the JSON holds no invoice object")

    def pick(source: dict[str, Any], *names: str) -> Any:
        return next((source[name] for name in names if source.get(name) is not None), None)

    def amount(*names: str) -> Decimal | None:
        value = pick(data, *names)
        return None if value is None else exact(value, names[0])

    invoice = Invoice(
        number=str(pick(data, "number", "invoice_number", "id") or ""),
        issued=date_of(str(pick(data, "issued", "date", "invoice_date", "issue_date") or "")),
        due=date_of(str(pick(data, "due", "due_date") or "")),
        currency=str(pick(data, "currency") or "")[:3],
        iban=str(pick(data, "iban", "IBAN") or ""),
        subtotal=amount("subtotal", "net"),
        discount=amount("discount"),
        tax=amount("tax", "vat", "tax_amount"),
        rate=amount("rate", "tax_rate", "vat_rate"),
        shipping=amount("shipping"),
        total=amount("total", "amount_due"),
    )
    rows = pick(data, "lines", "items", "line_items")
    for position, row in enumerate(rows if isinstance(rows, list) else [], 1):
        if not isinstance(row, dict):
            raise BadInput(f"line {position} is not an object")
        quantity = exact(pick(row, "quantity", "qty"), f"line {position} quantity")
        price = exact(pick(row, "price", "unit_price"), f"line {position} price")
        total = exact(pick(row, "amount", "total"), f"line {position} amount")
        invoice.lines.append(Line(short(pick(row, "description", "name") or "", 80), quantity, price, total))
    return invoice


def read_ubl(text: str) -> Invoice:
    """A UBL 2.1 invoice. A document type is refused: entities have no place in an invoice."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise BadInput("the XML has a document type declaration, which is not accepted")
    try:
        root = ElementTree.fromstring(re.sub(r"^\s*<\?xml[^>]*\?>", "", text))
    except ElementTree.ParseError as problem:
        raise BadInput(f"not valid XML: {problem}") from None
    if root.tag.rpartition("}")[2] != "Invoice":
        raise BadInput("the XML is no UBL invoice")

    def said(node: ElementTree.Element, path: str) -> str:
        return (node.findtext("/".join("{*}" + step for step in path.split("/"))) or "").strip()

    def amount(path: str) -> Decimal | None:
        return exact(said(root, path), path.rpartition("/")[2]) if said(root, path) else None

    invoice = Invoice(
        number=said(root, "ID"),
        issued=date_of(said(root, "IssueDate")),
        due=date_of(said(root, "DueDate")),
        currency=said(root, "DocumentCurrencyCode"),
        iban=said(root, "PaymentMeans/PayeeFinancialAccount/ID"),
        subtotal=amount("LegalMonetaryTotal/LineExtensionAmount"),
        discount=amount("LegalMonetaryTotal/AllowanceTotalAmount"),
        tax=amount("TaxTotal/TaxAmount"),
        shipping=amount("LegalMonetaryTotal/ChargeTotalAmount"),
        total=amount("LegalMonetaryTotal/TaxInclusiveAmount"),
    )
    rates = {element.text for element in root.iterfind("{*}TaxTotal/{*}TaxSubtotal/{*}TaxCategory/{*}Percent")}
    if len(rates) == 1:
        invoice.rate = exact(rates.pop(), "Percent")
    for position, node in enumerate(root.iterfind("{*}InvoiceLine"), 1):
        price = exact(said(node, "Price/PriceAmount"), f"line {position} PriceAmount")
        price /= exact(said(node, "Price/BaseQuantity") or "1", f"line {position} BaseQuantity") or Decimal(1)
        quantity = exact(said(node, "InvoicedQuantity"), f"line {position} InvoicedQuantity")
        total = exact(said(node, "LineExtensionAmount"), f"line {position} LineExtensionAmount")
        invoice.lines.append(Line(short(said(node, "Item/Name"), 80), quantity, price, total))
    return invoice
