"""What scripts print: reports, tables, JSON, lists, and the ways they fail."""

from __future__ import annotations

import json
import random

from training.words import Atoms

_LABELS = [
    "rows",
    "lines",
    "total",
    "count",
    "mean",
    "min",
    "max",
    "sum",
    "errors",
    "first",
    "last",
    "type",
    "size",
    "result",
    "date",
    "period",
    "status",
    "width",
]
_ERRORS = {
    "train": [
        "ValueError: {a}",
        "KeyError: '{a}'",
        "FileNotFoundError: [Errno 2] No such file or directory: '/mnt/data/{f}'",
        "error: {a} {b}",
        "{a}: cannot open {f}",
        "SystemExit: {a} is not {b}",
        "TypeError: bad {a}",
        "fatal: missing {a} in {f}",
        "Error: {b} {a} {c}",
        "invalid {a} in line {n}",
        "sh: 1: {a}: not found",
        "usage: {a}.py [-h] {b}",
        "unsupported {a} {b}",
        "RuntimeError: {a} {n}",
        "{f}: no {a} in it",
        "python3: can't open file '{a}.py': [Errno 2] No such file or directory",
    ],
    "held": [
        "{a}Error: {b} at row {n}",
        "refused: {a} before {b}",
        "{f} has {n} {a}, wanted {b}",
        "IndexError: {a} out of {b}",
    ],
}


def _date(rng: random.Random) -> str:
    day = f"{rng.randint(1990, 2030)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
    return day if rng.random() < 0.6 else f"{day} {rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}"


def value(atoms: Atoms) -> str:
    """One cell: a number, a word, two words, a decimal, a date."""
    rng = atoms.rng
    x = rng.random()
    if x < 0.35:
        return atoms.number()
    if x < 0.52:
        return f"{rng.random() * 10 ** rng.randint(0, 4):.{rng.randint(1, 3)}f}"
    if x < 0.6:
        return _date(rng)
    return atoms.atom() if x < 0.88 else f"{atoms.atom()} {atoms.atom()}"


def _report_line(atoms: Atoms) -> str:
    """A line of the kind `total (number): sum 12, mean 3.5, min 1`."""
    rng = atoms.rng
    key = rng.choice(_LABELS) if rng.random() < 0.4 else atoms.atom()
    if rng.random() < 0.25:
        key += f" ({atoms.atom()})" if rng.random() < 0.6 else f" {atoms.number()}"
    x = rng.random()
    if x < 0.45:
        return f"{key}: {value(atoms)}"
    if x < 0.7:
        parts = [
            f"{rng.choice(_LABELS) if rng.random() < 0.6 else atoms.atom()} {value(atoms)}"
            for _ in range(rng.randint(2, 4))
        ]
        return f"{key}: " + ", ".join(parts)
    if x < 0.85:
        return f"{key}: {value(atoms)} ({atoms.atom()} {atoms.number()})"
    return f"{key}: {value(atoms)} to {value(atoms)}"


def _confusable(atoms: Atoms, rows: int) -> str:
    """Lines drawn from few words, labels and dates: a copy has to keep its place among look-alikes."""
    rng = atoms.rng
    words = [atoms.atom() for _ in range(rng.randint(3, 7))]
    labels = rng.sample(_LABELS, rng.randint(2, 4))
    month = f"{rng.randint(1990, 2030)}-{rng.randint(1, 12):02d}"
    hour = f"{rng.randint(0, 23):02d}"
    if rng.random() < 0.2:
        words[0] = words[0].upper()

    def word() -> str:
        return rng.choice(words)

    def cell() -> str:
        x = rng.random()
        if x < 0.3:
            return str(rng.choice((rng.randint(0, 12), rng.randint(0, 99), rng.randint(100, 9999))))
        if x < 0.5:
            return f"{rng.random() * 10 ** rng.randint(1, 3):.{rng.randint(1, 2)}f}"
        if x < 0.65:
            return f"{month}-{rng.randint(1, 28):02d}"
        return f"{hour}:{rng.randint(0, 59):02d}:{rng.randint(0, 59):02d}" if x < 0.75 else word()

    def line(form: int) -> str:
        label = rng.choice(labels)
        if form == 0:
            return f"{word()} ({label}): " + ", ".join(
                f"{rng.choice(labels)} {cell()}" for _ in range(rng.randint(1, 4))
            )
        if form == 1:
            return f"{label}: {cell()}" + (f" ({word()} {cell()}, {word()} {cell()})" if rng.random() < 0.3 else "")
        if form == 2:
            return f"{label} x{rng.randint(1, 9)}: {word()}.{word()}: {word()} {word()} {cell()} {word()}"
        if form == 3:
            return f"{word()} {label}: {cell()} to {cell()}"
        if form == 4:
            one, two = word(), word()
            return f"{rng.choice(('', '', '  '))}- [{one.capitalize()} {two}](#{one}-{two})"
        if form == 5:
            return f"{word()}{rng.choice(('[].', '.', '_'))}{word()}: {label}"
        if form == 6:
            return f"{label} {rng.randint(1, 30)} ({word()}, {word()}): {cell()} x {cell()} is {cell()}, not {cell()}"
        return f"{word()}, {cell()}, {word()}, {cell()}" if form == 7 else f"{word()} {word()} {cell()}"

    forms = rng.sample(range(9), rng.randint(1, 3))
    return "\n".join(line(rng.choice(forms)) for _ in range(rows))


def stdout(atoms: Atoms, short: bool = False) -> str:
    """Standard output without its last newline: one to eleven lines."""
    rng = atoms.rng
    x = rng.random()
    if rng.random() < 0.5:
        return _confusable(atoms, rng.randint(1, 4) if short else rng.choice((1, 2, 3, 4, 5, 6, 8, 11)))
    n = rng.choice((1, 1, 1, 2, 2, 3, 4) if short else (1, 1, 2, 2, 3, 3, 4, 5, 6))
    if x < 0.08:
        return atoms.number()
    if x < 0.28:
        separator = rng.choice((" ", "=", ": ", ":", ", ", "\t", " - "))
        return "\n".join(f"{atoms.atom()}{separator}{value(atoms)}" for _ in range(n))
    if x < 0.55:
        rows = n if short or rng.random() < 0.75 else rng.randint(6, 11)
        return "\n".join(_report_line(atoms) for _ in range(rows))
    if x < 0.63:
        return "\n".join(value(atoms) for _ in range(n))
    if x < 0.73:
        record = {
            atoms.atom(): rng.choice(
                (
                    rng.randint(0, 9999),
                    atoms.atom(),
                    rng.random() < 0.5,
                    None,
                    round(rng.random() * 100, 2),
                    [rng.randint(0, 99), 7],
                )
            )
            for _ in range(rng.randint(1, 4))
        }
        return json.dumps(record, indent=2 if rng.random() < 0.15 else None)
    if x < 0.77:
        return json.dumps([atoms.atom() for _ in range(rng.randint(1, 5))])
    if x < 0.85:
        return "\n".join(" ".join(atoms.atom() for _ in range(rng.randint(1, 6))) for _ in range(min(n, 3)))
    if x < 0.91:
        bullet = rng.choice(("- ", "* ", "  ", "1. "))
        return "\n".join(f"{bullet}{atoms.atom()}" + rng.choice(("", f" {value(atoms)}")) for _ in range(n))
    if x < 0.95:
        width = rng.randint(8, 12)
        return "\n".join(f"{atoms.atom():<{width}} {atoms.number():>6}" for _ in range(n))
    return ",".join(value(atoms) for _ in range(rng.randint(2, 7)))


def failure(atoms: Atoms, skill: str, file: str | None) -> tuple[str, str]:
    """(tool message, the answer that reports it)."""
    rng = atoms.rng
    code = rng.choice((1, 1, 1, 2, 2, 127, 3, 126, rng.randint(4, 99)))
    last = rng.choice(_ERRORS[atoms.split]).format(
        a=atoms.atom(), b=atoms.atom(), c=atoms.atom(), f=file or "input", n=atoms.number()
    )
    x = rng.random()
    lines: list[str] = []
    if x < 0.35:
        lines = [
            "stderr:",
            "Traceback (most recent call last):",
            f'  File "/mnt/skills/{skill}/scripts/{atoms.atom()}.py", line {rng.randint(1, 60)}, in <module>',
            "    "
            + rng.choice(
                ("main()", f"raise {atoms.word()}", f"{atoms.word()} = open(sys.argv[1])", "sys.exit(main())")
            ),
        ]
    elif x < 0.55:
        lines = [
            "stderr:",
            *(" ".join(atoms.atom() for _ in range(rng.randint(1, 4))) for _ in range(rng.randint(1, 3))),
        ]
    elif x < 0.7:
        lines = [stdout(atoms, short=True), "stderr:"]
    elif x < 0.95:
        lines = ["stderr:"]
    head = f"exit code: {code}" if rng.random() < 0.97 else f"timed out after {rng.randint(1, 60)}000 ms"
    lead = head.replace("exit code: ", "exit code ")
    return "\n".join([head, *lines, last]), f"The command failed ({lead}): {last}"
