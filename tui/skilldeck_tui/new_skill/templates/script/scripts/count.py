#!/usr/bin/env python3
"""Counts the lines and words of a text file."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    try:
        text = options.file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        print(f"{options.file} cannot be read: {error}", file=sys.stderr)
        return 2
    found = {"lines": len(text.splitlines()), "words": len(text.split())}
    if options.json:
        print(json.dumps(found))
    else:
        print("\n".join(f"{name}: {count}" for name, count in found.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
