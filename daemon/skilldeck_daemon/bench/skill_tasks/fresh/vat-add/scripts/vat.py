"""vat.py AMOUNT --country CODE"""

import argparse

RATES = {"de": 19, "fr": 20, "lv": 21, "es": 21}
parser = argparse.ArgumentParser()
parser.add_argument("amount", type=float)
parser.add_argument("--country", choices=sorted(RATES), required=True)
asked = parser.parse_args()
rate = RATES[asked.country]
print(f"{asked.amount:.2f} and {rate} percent are {asked.amount * (100 + rate) / 100:.2f}")
