"""paper.py SHEET UNIT"""

import sys

SHEETS: dict[str, tuple[float, float]] = {"a2": (420, 594), "a3": (297, 420), "a4": (210, 297), "a5": (148, 210)}
SHEETS |= {"letter": (215.9, 279.4), "legal": (215.9, 355.6)}
UNITS: dict[str, float] = {"mm": 1, "cm": 10, "in": 25.4}

if len(sys.argv) != 3:
    print("usage: paper.py SHEET UNIT", file=sys.stderr)
    sys.exit(2)
sheet, unit = sys.argv[1].lower(), sys.argv[2].lower()
if sheet not in SHEETS:
    print(f"there is no sheet {sheet}", file=sys.stderr)
    sys.exit(2)
if unit not in UNITS:
    print(f"{unit} is no unit that is known here", file=sys.stderr)
    sys.exit(2)
wide, high = (side / UNITS[unit] for side in SHEETS[sheet])
print(f"{sheet}: {wide:.2f} x {high:.2f} {unit}")
