"""Whether a polyester rope carries a load: its strength is 22 kg for each square millimetre of diameter squared."""

import argparse

parser = argparse.ArgumentParser()
parser.add_argument("--diameter", type=float, required=True)
parser.add_argument("--load", type=float, required=True)
parser.add_argument("--margin", type=float, default=5)
asked = parser.parse_args()
safe = 22 * asked.diameter**2 / asked.margin
print(f"safe load of {asked.diameter:g} mm: {safe:.0f} kg")
print(f"{asked.load:g} kg: {'ok' if asked.load <= safe else 'too weak'}")
