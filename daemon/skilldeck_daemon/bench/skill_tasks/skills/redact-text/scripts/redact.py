"""redact.py FILE OUTPUT"""

import re
import sys

if len(sys.argv) != 3:
    print("usage: redact.py FILE OUTPUT", file=sys.stderr)
    sys.exit(2)
with open(sys.argv[1], encoding="utf-8") as file:
    text = file.read()
text, mails = re.subn(r"[\w.+-]+@[\w.-]+\.\w+", "[e-mail]", text)
text, phones = re.subn(r"\+?\d[\d ()/-]{7,}\d", "[phone]", text)
with open(sys.argv[2], "w", encoding="utf-8") as file:
    file.write(text)
print(f"blanked {mails} addresses and {phones} phone numbers, wrote {sys.argv[2]}")
