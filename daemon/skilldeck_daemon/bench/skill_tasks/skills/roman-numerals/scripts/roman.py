"""roman.py NUMBER"""

import sys

SIGNS = [
    (1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"),
    (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"),
]  # fmt: skip


def write(number: int) -> str:
    out = ""
    for value, sign in SIGNS:
        out += sign * (number // value)
        number %= value
    return out


if len(sys.argv) != 2:
    print("usage: roman.py NUMBER", file=sys.stderr)
    sys.exit(2)
given = sys.argv[1].upper()
found = next((n for n in range(1, 4000) if given in (str(n), write(n))), 0)
if not found:
    print(f"{given} is no number from 1 to 3999", file=sys.stderr)
    sys.exit(1)
print(write(found) if given.isdigit() else found)
