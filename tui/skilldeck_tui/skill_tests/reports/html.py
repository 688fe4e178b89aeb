"""One HTML page that needs nothing else: the matrix, charts as SVG, and every try to be opened.

All text of models and commands is escaped; the page has no script, so what a model wrote cannot act in it, and nothing
may be loaded from elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape

from skilldeck_tui.client.types import Object
from skilldeck_tui.skill_tests.cases import short
from skilldeck_tui.skill_tests.reports.text import findings, heading, interval, percent, points, score, version_name

BAR, ROW, LEFT, RIGHT = 420, 30, 210, 150
"""Of a chart, in pixels: the scale, a row, room for names, room for figures."""
NAME = 27
"""Characters that the room for names has place for."""

STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #667; --line: #d9dce3; --page: #fff; --card: #f6f7f9;
  --good: #1f8a4c; --bad: #c43d3d; --mid: #b7791f; --bar: #3b6fd4; --none: #9aa1ae; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ee; --soft: #9aa1ae; --line: #333a47; --page: #14171d;
  --card: #1c2129; --good: #4cc27f; --bad: #ef7a7a; --mid: #e0b05a; --bar: #7fa6f2; --none: #6b7280; } }
* { box-sizing: border-box } body { margin: 0 auto; max-width: 1080px; padding: 32px 20px 80px; background: var(--page);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif } h1 { font-size: 26px; margin: 0 0 4px }
h2 { font-size: 18px; margin: 36px 0 10px } p.soft, .soft { color: var(--soft) }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100% }
th, td { padding: 7px 10px; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top;
  white-space: nowrap }
th:first-child, td:first-child { text-align: left; white-space: normal } th { font-weight: 600 }
.passed { color: var(--good) } .failed { color: var(--bad) } .mixed { color: var(--mid) } .none { color: var(--soft) }
ul { padding-left: 20px }
details { border: 1px solid var(--line); border-radius: 6px; margin: 6px 0; background: var(--card) }
summary { cursor: pointer; padding: 8px 12px } details > div { padding: 0 14px 12px } pre { white-space: pre-wrap;
  overflow-wrap: anywhere; background: var(--page); border: 1px solid var(--line); border-radius: 4px; padding: 8px;
  margin: 6px 0; max-height: 360px; overflow: auto; font: 13px/1.45 ui-monospace, monospace }
svg { display: block; max-width: 100%; height: auto } svg text { fill: var(--ink); font: 13px system-ui, sans-serif }
svg .soft { fill: var(--soft) } svg .grid { stroke: var(--line) }
"""


def page(report: Object, trials: Sequence[Object]) -> str:
    """The whole document."""
    evaluation = report["evaluation"]
    made = datetime.fromtimestamp(evaluation["created_at"], UTC).strftime("%Y-%m-%d %H:%M UTC")
    shown = [
        made,
        ", ".join(evaluation["models"]),
        f"{evaluation['runs']} {'try' if evaluation['runs'] == 1 else 'tries'} of each test",
        f"seeds from {evaluation['seed']}",
    ]
    shown += [f"among {', '.join(evaluation['among'])}"] if evaluation.get("among") else []
    shown += [f"judged by {evaluation['judge']}"] if evaluation.get("judge") else []
    lines = findings(report)
    parts = [
        f"<h1>Tests of {escape(evaluation['skill'])}</h1><p class=soft>{escape(' · '.join(shown))}</p>",
        f"<h2>Findings</h2><ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>" if lines else "",
        "<h2>Pass rate</h2><p class=soft>The line is the 95 % interval (Wilson).</p>" + rates(report),
    ]
    if any(column["lift"] is not None for column in report["columns"]):
        parts.append(
            "<h2>Lift over no skill</h2><p class=soft>In percentage points, with the 95 % interval.</p>" + lifts(report)
        )
    parts += ["<h2>Tests</h2>" + _table(report), "<h2>Tokens and time of a try</h2>" + _costs(report)]
    parts.append("<h2>Every try</h2>" + "".join(_try(trial) for trial in trials))
    title = f"Tests of {escape(evaluation['skill'])}"
    return (
        f'<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content="width=device-width">'
        f"<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


# ------------------------------------------------------------ charts


def rates(report: Object) -> str:
    """A bar for each column's pass rate, with its interval."""
    columns = report["columns"]
    models = len({column["model"] for column in columns})
    rows = [
        (
            heading(column, models),
            column["rate"] or 0.0,
            column["low"],
            column["high"],
            f"{percent(column['rate'])}  ({column['passed']}/{column['tried']})",
            "--none" if column["baseline"] else "--bar",
        )
        for column in columns
    ]
    return _chart(rows, 0.0, 1.0, [(part / 4, f"{25 * part} %") for part in range(5)], "Pass rates")


def lifts(report: Object) -> str:
    columns = [column for column in report["columns"] if column["lift"] is not None]
    models = len({column["model"] for column in columns})
    rows = []
    for column in columns:
        lift = column["lift"]
        colour = "--none" if not lift["certain"] else "--good" if lift["value"] > 0 else "--bad"
        name = heading(column, models)
        rows.append((name, lift["value"], lift["low"], lift["high"], points(lift).partition(" (")[0], colour))
    return _chart(rows, -1.0, 1.0, [(part / 2, f"{50 * part:+d}" if part else "0") for part in range(-2, 3)], "Lift")


def _chart(
    rows: Sequence[tuple[str, float, float, float, str, str]],
    least: float,
    most: float,
    marks: Sequence[tuple[float, str]],
    name: str,
) -> str:
    """Bars from zero to a value, each with a line from its low to its high."""
    height = ROW * len(rows) + 26

    def x(value: float) -> float:
        return round(LEFT + BAR * (min(most, max(least, value)) - least) / (most - least), 1)

    out = [
        f'<svg viewBox="0 0 {LEFT + BAR + RIGHT} {height}" width="{LEFT + BAR + RIGHT}" role="img" aria-label="{name}">'
    ]
    for value, label in marks:
        out.append(f'<line class="grid" x1="{x(value)}" x2="{x(value)}" y1="0" y2="{height - 22}"/>')
        out.append(f'<text class="soft" x="{x(value)}" y="{height - 6}" text-anchor="middle">{label}</text>')
    for number, (label, value, low, high, shown, colour) in enumerate(rows):
        top = ROW * number + 4
        start, end = sorted((x(0.0), x(value)))
        middle = top + (ROW - 8) / 2
        out += [
            f'<text x="{LEFT - 10}" y="{middle + 4}" text-anchor="end"><title>{escape(label)}</title>'
            f"{escape(short(label, NAME))}</text>",
            f'<rect x="{start}" y="{top}" width="{max(1.0, end - start)}" height="{ROW - 8}" rx="2" '
            f'fill="var({colour})"/>',
            f'<path d="M{x(low)} {middle}H{x(high)}M{x(low)} {middle - 4}v8M{x(high)} {middle - 4}v8" '
            f'stroke="var(--ink)" stroke-width="1.5" fill="none"/>',
            f'<text x="{LEFT + BAR + 12}" y="{middle + 4}">{escape(shown)}</text>',
        ]
    return f"<div class=wide>{''.join(out)}</svg></div>"


# ------------------------------------------------------------ tables


def _table(report: Object) -> str:
    models = len({column["model"] for column in report["columns"]})
    head = "".join(f"<th>{escape(heading(column, models))}</th>" for column in report["columns"])
    rows = []
    for test in report["tests"]:
        cells = "".join(
            f'<td class={_class(cell)} title="{escape(interval(cell["low"], cell["high"]))}">{escape(score(cell))}</td>'
            for cell in test["cells"]
        )
        rows.append(f"<tr><td>{escape(test['name'])} <span class=soft>{escape(test['source'])}</span></td>{cells}</tr>")
    return f"<div class=wide><table><tr><th>test</th>{head}</tr>{''.join(rows)}</table></div>"


def _costs(report: Object) -> str:
    models = len({column["model"] for column in report["columns"]})
    rows = "".join(
        f"<tr><td>{escape(heading(c, models))}</td><td>{c['tokens']:,.0f}</td><td>{c['turns']:.1f}</td>"
        f"<td>{c['seconds']:.1f}</td><td>{c['model_seconds']:.1f}</td><td>{c['triggered']}</td><td>{c['reused']}</td></tr>"
        for c in report["columns"]
    )
    names = ("", "tokens", "turns", "seconds", "of the model", "opened", "asked before")
    head = "".join(f"<th>{name}</th>" for name in names)
    return f"<div class=wide><table><tr>{head}</tr>{rows}</table></div>"


def _class(cell: Object) -> str:
    if not cell["tried"]:
        return "none"
    return "passed" if cell["passed"] == cell["tried"] else "mixed" if cell["passed"] else "failed"


def _try(trial: Object) -> str:
    status = {"passed": "passed", "failed": "failed", "error": "failed"}.get(trial["status"], "none")
    where = f"{trial['model']}, {version_name(trial)}, try {trial['number'] + 1}, seed {trial['seed']}"
    checks = "".join(
        f"<li class={'none' if c['status'] == 'not_judged' else c['status']}>{escape(c['text'])}"
        + (f"<br><span class=soft>{escape(c['reason'])}</span>" if c["reason"] else "")
        + (f"<br><q>{escape(c['evidence'])}</q>" if c["evidence"] else "")
        + "</li>"
        for c in trial["checks"]
    )
    commands = "".join(
        f"<pre>$ {escape(entry['command'])}\n(exit code {entry['exit_code']})</pre>" for entry in trial["commands"]
    )
    files = f"<p>Files: {escape(', '.join(trial['files']))}</p>" if trial["files"] else ""
    answer = f"<p>Answer:</p><pre>{escape(trial['answer'])}</pre>" if trial["answer"] else ""
    run = f"<p class=soft>skilldeck --run {escape(trial['run_id'])}</p>" if trial["run_id"] else ""
    shown = trial["status"].replace("_", " ")
    return (
        f"<details><summary><span class={status}>{shown}</span> {escape(trial['test'])} "
        f"<span class=soft>{escape(where)} · {trial['seconds']:.1f} s</span></summary>"
        f"<div><ul>{checks}</ul>{commands}{files}{answer}{run}</div></details>"
    )
