"""loan.py AMOUNT RATE YEARS"""

import sys

try:
    amount, rate, years = (float(word) for word in sys.argv[1:])
except ValueError:
    print("usage: loan.py AMOUNT RATE YEARS, plain numbers", file=sys.stderr)
    sys.exit(2)
months, monthly = round(years * 12), rate / 1200
payment = amount / months if not monthly else amount * monthly / (1 - (1 + monthly) ** -months)
print(f"payment: {payment:.2f} a month for {months} months")
print(f"interest in all: {payment * months - amount:.2f}")
