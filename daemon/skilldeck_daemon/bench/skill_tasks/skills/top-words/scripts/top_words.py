"""top_words.py FILE COUNT"""

import re
import sys
from collections import Counter

if len(sys.argv) != 3:
    print("usage: top_words.py FILE COUNT", file=sys.stderr)
    sys.exit(2)
with open(sys.argv[1], encoding="utf-8") as file:
    words = Counter(re.findall(r"[a-z']{3,}", file.read().lower()))
for word, count in words.most_common(int(sys.argv[2])):
    print(f"{count:3} {word}")
