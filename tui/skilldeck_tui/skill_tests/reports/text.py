"""The summary as lines for a terminal, and as Markdown."""

from __future__ import annotations

from skilldeck_shared.terminal import clean
from skilldeck_tui.client.types import Object
from skilldeck_tui.skill_tests.matrix.variants import LATEST


def percent(rate: float | None) -> str:
    return "—" if rate is None else f"{100 * rate:.0f} %"


def interval(low: float, high: float) -> str:
    return f"{100 * low:.0f}–{100 * high:.0f} %"


def points(difference: Object) -> str:
    """A difference of rates in percentage points, with its interval."""
    low, high = 100 * difference["low"], 100 * difference["high"]
    return f"{100 * difference['value']:+.0f} points ({low:+.0f} to {high:+.0f})"


def heading(column: Object, models: int) -> str:
    name = str(column["variant"]) if column["baseline"] else f"version {version_name(column)}"
    return f"{column['model']}, {name}" if models > 1 else name


def version_name(column: Object) -> str:
    """Of a column or a trial: `3`, `3 (latest)`, a folder, a revision."""
    variant, number = str(column["variant"]), str(column["version"])
    return f"{number} ({variant})" if variant == LATEST and number else variant


def score(cell: Object) -> str:
    """`2/3`, with what was not decided and whether it is flaky."""
    if not cell["tried"] and not cell["not_judged"] and not cell["errors"]:
        return "—"
    more = [f"{cell['not_judged']} not judged"] if cell["not_judged"] else []
    more += [f"{cell['errors']} could not run"] if cell["errors"] else []
    decided = f"{cell['passed']}/{cell['tried']}{' flaky' if cell['flaky'] else ''}" if cell["tried"] else ""
    return ", ".join([decided, *more] if decided else more)


def findings(report: Object) -> list[str]:
    """What a person should hear in words: lift, regressions, what is flaky, what was not judged."""
    models = len({column["model"] for column in report["columns"]})
    lines = []
    for column in report["columns"]:
        if column["lift"] is not None:
            sure = "" if column["lift"]["certain"] else "; zero is within the interval"
            lines.append(f"lift of {heading(column, models)}: {points(column['lift'])}{sure}")
    for found in report["regressions"]:
        mark = "worse" if found["certain"] else "perhaps worse"
        lines.append(
            f"{mark} than version {found['before']}: {found['test']} ({found['model']}), {points(found['drop'])}: "
            f"{clean(found['reason'].splitlines()[0]) if found['reason'] else 'it failed'}"
            f"; look at it: skilldeck --run {found['run_id']}"
        )
    for found in report["flaky"]:
        lines.append(f"flaky: {found['test']} ({found['model']}, {found['variant']})")
    for column in report["columns"]:
        counts = column["sentences"]
        if counts["passed"] + counts["failed"]:
            lines.append(
                f"sentences, {heading(column, models)}: {counts['passed']} hold, {counts['failed']} do not"
                + (f", {counts['not_judged']} not judged" if counts["not_judged"] else "")
            )
        elif counts["not_judged"]:
            lines.append(
                f"sentences, {heading(column, models)}: {counts['not_judged']} not judged; --judge MODEL judges them"
            )
    return lines


def terminal(report: Object) -> list[str]:
    """A table of tests and columns, then the findings. A single column of single tries needs no table."""
    columns, tests = report["columns"], report["tests"]
    if len(columns) == 1 and report["evaluation"]["runs"] == 1:
        return findings(report)
    models = len({column["model"] for column in columns})
    heads = [heading(column, models) for column in columns]
    rows = [(clean(test["name"])[:48], [score(cell) for cell in test["cells"]]) for test in tests]
    rows.append(("passed", [percent(c["rate"]) for c in columns]))
    rows.append(("95 % interval", [interval(c["low"], c["high"]) for c in columns]))
    rows.append(("tokens a try", [f"{c['tokens']:,.0f}" for c in columns]))
    rows.append(("seconds a try", [f"{c['seconds']:.1f}" for c in columns]))
    first = max(len(name) for name, _ in rows)
    widths = [max(len(head), *(len(cells[n]) for _, cells in rows)) for n, head in enumerate(heads)]
    lines = [" " * first + "".join(f"  {head:>{width}}" for head, width in zip(heads, widths, strict=True))]
    for name, cells in rows:
        lines.append(f"{name:<{first}}" + "".join(f"  {c:>{w}}" for c, w in zip(cells, widths, strict=True)))
    return [*lines, *findings(report)]


def markdown(report: Object) -> str:
    """One page for a pull request or a wiki."""
    evaluation, columns = report["evaluation"], report["columns"]
    models = len({column["model"] for column in columns})
    lines = [
        f"# Tests of {evaluation['skill']}",
        "",
        f"{', '.join(evaluation['models'])} · {evaluation['runs']} tries of each test, seeds from {evaluation['seed']}",
        "",
        "| test | " + " | ".join(_escaped(heading(column, models)) for column in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for test in report["tests"]:
        lines.append(f"| {_escaped(test['name'])} | " + " | ".join(score(cell) for cell in test["cells"]) + " |")
    for name, cells in (
        ("**passed**", [f"**{percent(c['rate'])}** ({interval(c['low'], c['high'])})" for c in columns]),
        ("tokens a try", [f"{c['tokens']:,.0f}" for c in columns]),
        ("seconds a try", [f"{c['seconds']:.1f}" for c in columns]),
    ):
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    noted = findings(report)
    if noted:
        lines += ["", *[f"- {_escaped(line)}" for line in noted]]
    return "\n".join([*lines, "", "Intervals are at 95 % (Wilson; lift: Newcombe).", ""])


def _escaped(text: str) -> str:
    return " ".join(clean(text).split()).replace("|", "\\|").replace("<", "&lt;")
