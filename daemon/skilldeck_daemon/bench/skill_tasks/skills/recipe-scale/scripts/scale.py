"""scale.py RECIPE PEOPLE"""

import re
import sys

if len(sys.argv) != 3:
    print("usage: scale.py RECIPE PEOPLE", file=sys.stderr)
    sys.exit(2)
with open(sys.argv[1], encoding="utf-8") as file:
    text = file.read()
serves = int(re.findall(r"serves (\d+)", text)[0])
factor = int(sys.argv[2]) / serves
for amount, rest in re.findall(r"^([\d.]+)(.*)$", text, re.MULTILINE):
    print(f"{float(amount) * factor:g}{rest}")
