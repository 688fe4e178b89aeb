"""slug.py TITLE"""

import re
import sys

if len(sys.argv) != 2:
    print("usage: slug.py TITLE", file=sys.stderr)
    sys.exit(2)
print("/" + re.sub(r"[^a-z0-9]+", "-", sys.argv[1].lower()).strip("-"))
