"""Real scripts, descriptions and requests for the evaluation; nothing here is used in training.

`SCRIPTS` maps a key to (language, body, extension, description, requests). Bodies read the file named by their first
argument that holds a slash, print, and may fail. `{f}` in a request is the file.
"""

from __future__ import annotations

import json
import random

from training.words import Atoms, made_up, vocabulary

SCRIPTS: dict[str, tuple[str, str, str, str, tuple[str, ...]]] = {
    "smallest": (
        "py",
        "import csv\nprint('min %d' % min(int(r[1]) for r in list(csv.reader(open(F)))[1:]))",
        "csv",
        "Find the smallest number of a table",
        ("What is the smallest number in {f}?", "smallest number of {f}"),
    ),
    "vowels": (
        "py",
        "print('vowels', sum(c in 'aeiou' for c in open(F).read()))",
        "txt",
        "Count vowels",
        ("How many vowels are in {f}?", "count the vowels of {f}"),
    ),
    "columns": (
        "py",
        "print(open(F).readline().strip())",
        "csv",
        "Shows the header columns of a spreadsheet",
        ("Which columns does {f} have?", "show the columns of {f}"),
    ),
    "phones": (
        "py",
        "import re\nprint('\\n'.join(re.findall(r'[0-9]{3}-[0-9]{4}', open(F).read())) or 'none')",
        "txt",
        "Extract phone numbers",
        ("Find phone entries in {f}", "which phone numbers are in {f}?"),
    ),
    "reading": (
        "py",
        "print('minutes=%.1f' % (len(open(F).read().split()) / 200))",
        "md",
        "Estimates the reading time of an article",
        ("How long is the reading time of {f}?", "estimate the reading time of {f}"),
    ),
    "longest": (
        "py",
        "print(max(open(F).read().split(), key=len))",
        "txt",
        "Pick the longest term",
        ("What is the longest term in {f}?", "longest term of {f} please"),
    ),
    "paragraphs": (
        "py",
        (
            "t = open(F).read()\n"
            "print('paragraphs: %d' % len([p for p in t.split('\\n\\n') if p.strip()]))\n"
            "print('characters: %d' % len(t))"
        ),
        "txt",
        "Paragraph statistics - paragraphs and characters",
        ("paragraph statistics for {f}", "I want the paragraph statistics of {f}"),
    ),
    "types": (
        "py",
        (
            "import json\nd = json.load(open(F))\n"
            "print('\\n'.join('%s %s' % (k, type(v).__name__) for k, v in list(d.items())[:5]))"
        ),
        "json",
        "Print the type of each JSON field",
        ("What type does each field of {f} have?", "type of the fields in {f}"),
    ),
    "shrink": (
        "py",
        "import json\nprint(json.dumps(dict(list(json.load(open(F)).items())[:3])))",
        "json",
        "Shrink JSON to a compact form",
        ("make {f} compact", "shrink {f}"),
    ),
    "warnings": (
        "py",
        "print('\\n'.join(l.strip() for l in open(F) if l.startswith('WARN'))[:120] or 'no warnings')",
        "log",
        "Collect warnings of a server log",
        ("Are there warnings in {f}?", "collect the warnings from {f}"),
    ),
    "opening": (
        "py",
        "print(open(F).readline().strip())",
        "txt",
        "Show the opening sentence",
        ("what is the opening sentence of {f}?", "opening of {f}"),
    ),
    "size": (
        "py",
        "import os\nprint('bytes %d' % os.path.getsize(F))",
        "dat",
        "Reports the size in bytes",
        ("What is the size of {f}?", "size of {f} in bytes"),
    ),
    "capitalize": (
        "py",
        "print(open(F).readline().strip().title())",
        "txt",
        "Capitalize a headline",
        ("capitalize the headline in {f}", "headline of {f}, please capitalize"),
    ),
    "spread": (
        "py",
        (
            "import csv\nv = [int(r[1]) for r in list(csv.reader(open(F)))[1:]]\n"
            "print('range', max(v) - min(v))\nprint('rows: %d (mean %.2f)' % (len(v), sum(v) / len(v)))"
        ),
        "csv",
        "Compute the spread between extremes",
        ("how big is the spread in {f}?", "compute the spread of {f}"),
    ),
    "ledger": (
        "py",
        (
            "import csv\nfor r in list(csv.reader(open(F)))[1:7]:\n"
            "    print('%s (text): sum %s, most often %s' % (r[0], r[1], r[2]))"
        ),
        "csv",
        "Profiles a table - sums, types and the most common cells",
        ("profile {f}", "What are the common cells in {f}?"),
    ),
    "levels": (
        "py",
        (
            "import collections\nc = collections.Counter(l.split()[0] for l in open(F))\n"
            "print('lines: %d' % sum(c.values()))\nfor k, n in sorted(c.items()):\n"
            "    print('%s x%d' % (k.lower(), n))"
        ),
        "log",
        "Groups log messages by level",
        ("group the messages in {f} by level", "Which levels does {f} have?"),
    ),
    "rows": (
        "sh",
        'echo "lines $(wc -l < "$1")"',
        "log",
        "Measure how many rows there are",
        ("measure the rows of {f}", "how many rows in {f}?"),
    ),
    "preview": ("sh", 'head -n 2 "$1"', "txt", "Preview the beginning", ("preview {f}", "give me a preview of {f}")),
    "fingerprint": (
        "sh",
        'cksum < "$1" | cut -d" " -f1',
        "txt",
        "Fingerprint for integrity",
        ("fingerprint of {f}?", "get the fingerprint for {f}"),
    ),
}
FAILING: dict[str, tuple[str, str, str, str, tuple[str, ...]]] = {
    "schema": (
        "py",
        "sys.exit('SchemaError: missing field ' + open(F).readline().split(',')[0][::-1].strip())",
        "csv",
        "Verify the schema of a table",
        ("verify the schema of {f}", "does {f} follow the schema?"),
    ),
    "audit": (
        "py",
        "raise ValueError('unsupported document ' + open(F).read().split()[0])",
        "txt",
        "Audit for compliance",
        ("audit {f}", "check the compliance of {f}"),
    ),
    "refuse": (
        "py",
        (
            "print('reading', len(open(F).read()))\n"
            "sys.stderr.write('refused: %d rows are locked\\n' % len(open(F).readlines()))\nsys.exit(4)"
        ),
        "log",
        "Unlocks locked rows",
        ("unlock the rows in {f}", "are rows locked in {f}?"),
    ),
    "broken": (
        "sh",
        'echo "quota of $(wc -c < "$1") exceeded" >&2; exit 9',
        "dat",
        "Renew the quota",
        ("renew the quota of {f}",),
    ),
}
LAYOUTS = (
    "---\nname: {n}\ndescription: {q}\n---\n\n# {t}\n\n## Instructions\n\n"
    "Find the file the user is asking about, then run "
    "the script:\n\n```bash\n{c}\n```\n\nReport the output to the user exactly as printed.\n",
    "---\nname: {n}\ndescription: {q}\n---\n\n"
    "{d}. Use this skill whenever the user asks for it.\n\nRun `{c}` and tell the "
    "user what it printed.\n\n- Works with UTF-8 input only.\n- Large files may take a few seconds.\n",
    "---\nname: {n}\ndescription: {q}\nlicense: MIT\n---\n# {t}\n\n"
    "This skill wraps a small script. You do not need to open "
    "it.\n\n```\n{c}\n```\n\nThe result goes to standard output. If the script fails, show the error message.\n",
)
TWO_STEP_LAYOUTS = (
    "---\nname: {n}\ndescription: {q}\n---\n\n# {t}\n\n1. Run `{c}` to check the input\n"
    "2. Run `{e}` for the answer\n\n"
    "Report what the second command prints.\n",
    "---\nname: {n}\ndescription: {q}\n---\n\n# {t}\n\n## Step 1\n\n"
    "Check that the file is fine:\n\n```bash\n{c}\n```\n\n"
    "## Step 2\n\nMake the report:\n\n```bash\n{e}\n```\n",
    "---\nname: {n}\ndescription: {q}\n---\n\nFirst run:\n\n```\n{c}\n```\n\nThen run:\n\n```\n{e}\n```\n",
)


def script_file(language: str, body: str) -> str:
    if language == "sh":
        return body + "\n"
    return f"import sys\n\nF = ([a for a in sys.argv[1:] if '/' in a] + [''])[0]\n{body}\n"


def file_content(rng: random.Random, extension: str) -> str:
    """A small file of made-up but well-formed content."""
    atoms = Atoms(rng, "held")
    if extension in ("csv", "tsv"):
        head = ",".join(atoms.atom() for _ in range(3))
        rows = (
            f"{made_up(rng, 'held')},{rng.randint(1, 5000)},{made_up(rng, 'held')}\n" for _ in range(rng.randint(2, 9))
        )
        return head + "\n" + "".join(rows)
    if extension == "json":
        values = (rng.randint(0, 999), atoms.atom(), [1, 2], None, True)
        return json.dumps({atoms.atom(): rng.choice(values) for _ in range(rng.randint(2, 5))})
    if extension == "log":
        levels = ("INFO", "INFO", "WARN", "ERROR")
        lines = (
            f"{rng.choice(levels)} {' '.join(made_up(rng, 'held') for _ in range(3))}\n"
            for _ in range(rng.randint(2, 6))
        )
        return "".join(lines)
    words = vocabulary("held")
    text = "\n".join(
        " ".join(made_up(rng, "held") if rng.random() < 0.5 else rng.choice(words) for _ in range(rng.randint(2, 6)))
        for _ in range(rng.randint(1, 8))
    )
    return text + (f"\n{rng.randint(100, 999):03d}-{rng.randint(0, 9999):04d}\n" if rng.random() < 0.4 else "\n")
