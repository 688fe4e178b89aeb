"""convert.py NUMBER FROM TO"""

import sys
from decimal import Decimal, InvalidOperation

LENGTH = {"m": "1", "km": "1000", "mi": "1609.344", "ft": "0.3048", "in": "0.0254"}
WEIGHT = {"g": "1", "kg": "1000", "lb": "453.59237", "oz": "28.349523125"}


def kelvin(value: Decimal, unit: str) -> Decimal:
    return {"k": value, "c": value + Decimal("273.15"), "f": (value + Decimal("459.67")) * 5 / 9}[unit]


def from_kelvin(value: Decimal, unit: str) -> Decimal:
    return {"k": value, "c": value - Decimal("273.15"), "f": value * 9 / 5 - Decimal("459.67")}[unit]


def main() -> int:
    try:
        number, source, target = Decimal(sys.argv[1]), sys.argv[2].lower(), sys.argv[3].lower()
    except (IndexError, InvalidOperation):
        print("usage: convert.py NUMBER FROM TO", file=sys.stderr)
        return 2
    for table in (LENGTH, WEIGHT):
        if source in table and target in table:
            found = number * Decimal(table[source]) / Decimal(table[target])
            break
    else:
        if not {source, target} <= {"c", "f", "k"}:
            print(f"{source} and {target} do not measure the same, or are unknown", file=sys.stderr)
            return 2
        found = from_kelvin(kelvin(number, source), target)
    print(f"{number} {source} = {found:.3f} {target}")
    return 0


sys.exit(main())
