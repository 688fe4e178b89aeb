"""contrast.py TEXT BACKGROUND"""

import sys


def light(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


try:
    one, other = sorted((light(word.strip("#")) for word in sys.argv[1:]), reverse=True)
except ValueError:
    print("usage: contrast.py TEXT BACKGROUND, six hexadecimal digits each", file=sys.stderr)
    sys.exit(2)
ratio = (one + 0.05) / (other + 0.05)
print(f"ratio: {ratio:.2f} to 1, {'passes' if ratio >= 4.5 else 'fails'}")
