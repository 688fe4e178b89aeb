"""What a benchmark prints: a table for people, JSON for programs, a Markdown report with a chart of the ratios."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from html import escape
from importlib import metadata
from typing import Any

from skilldeck_daemon.bench.measure import Measure, spread
from skilldeck_shared.version import __version__


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    packages = (
        "torch",
        "transformers",
        "exllamav2",
        "exllamav3",
        "flash_attn",
        "xllamacpp",
        "textual",
        "starlette",
        "SQLAlchemy",
    )
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "date": time.strftime("%Y-%m-%d"),
        "skilldeck": __version__,
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "card": _card(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": versions,
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _card() -> str:
    """The first NVIDIA card, "" without one; torch is asked only when the run has imported it."""
    torch = sys.modules.get("torch")
    return str(torch.cuda.get_device_name()) if torch is not None and torch.cuda.is_available() else ""


def to_json(measures: Sequence[Measure]) -> str:
    """{"machine", "measures"}: the stable form."""
    return json.dumps({"machine": machine(), "measures": [measure.to_dict() for measure in measures]}, indent=2)


ENOUGH_FOR_P95 = 20
"""Samples below which a 95th percentile says no more than the largest."""


def number(value: float) -> str:
    """Three significant digits, thousands apart."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _cells(measure: Measure) -> tuple[str, str, str, str, str]:
    ours = spread(measure.ours)
    middle = f"{number(ours['p25'])}–{number(ours['p75'])}"
    if ours["n"] >= ENOUGH_FOR_P95:
        middle += f", p95 {number(ours['p95'])}"
    shown = f"{number(ours['median'])} {measure.unit} ({middle}, n={ours['n']})"
    theirs = ""
    if measure.theirs:
        figures = spread(measure.theirs)
        theirs = f"{measure.reference}: {number(figures['median'])} {measure.unit}"
        if figures["n"] >= ENOUGH_FOR_P95:
            theirs += f" (p95 {number(figures['p95'])})"
    ratio = f"{measure.ratio:.2f}" if measure.ratio is not None else ""
    return measure.name, shown, theirs, ratio, measure.goal


def to_text(measures: Sequence[Measure]) -> str:
    """One line a measurement, grouped by suite."""
    lines = []
    for suite in dict.fromkeys(measure.suite for measure in measures):
        lines.append(suite)
        for measure in measures:
            if measure.suite == suite:
                name, ours, theirs, ratio, goal = _cells(measure)
                lines.append(f"  {name:<44} {ours}")
                if theirs:
                    lines.append(f"  {'':<44} ratio {ratio} to {theirs}")
                if goal:
                    lines.append(f"  {'':<44} goal {goal}")
                if measure.note:
                    lines.append(f"  {'':<44} {measure.note}")
    return "\n".join(lines)


def to_markdown(measures: Sequence[Measure]) -> str:
    """The report: the machine, a table a suite."""
    about = machine()
    versions = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    lines = [
        "# Benchmarks",
        "",
        "Made by `skilldeckd bench --markdown docs/benchmarks.md --mistralrs-python ENV/bin/python`; ENV is an",
        "environment with the PyPI wheel mistralrs. Every ratio compares two things measured alternately in the same",
        "run; figures are medians with the middle half in brackets, and from 20 samples on",
        "the 95th percentile. Absolute figures say little about other machines.",
        "",
        f"{about['date']}, skilldeck {about['skilldeck']}, {about['processor']}, {about['cores']} cores"
        f"{', ' + about['card'] if about['card'] else ''}, {about['system']}, Python {about['python']}, {versions}.",
        "",
    ]
    for suite in dict.fromkeys(measure.suite for measure in measures):
        lines += [f"## {suite}", "", "| what | ours | reference | ratio | goal |", "|---|---|---|---|---|"]
        notes = []
        for measure in measures:
            if measure.suite == suite:
                lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in _cells(measure)) + " |")
                if measure.note:
                    notes.append(f"{measure.name}: {measure.note}")
        lines += ["", *notes, *([""] if notes else [])]
    return "\n".join(lines).rstrip() + "\n"


def to_svg(measures: Sequence[Measure]) -> str:
    """A bar per ratio, 1.0 marked; bars on the good side are green."""
    rows = [measure for measure in measures if measure.ratio is not None]
    left, width, line = 330, 360, 22
    largest = max([2.0, *(measure.ratio or 0 for measure in rows)])
    unit = width / largest
    height = line * len(rows) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 90}" height="{height}"'
        ' font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="100%" height="{height}" fill="#ffffff"/>',
        f'<text x="{left}" y="16" fill="#555">ratio to the reference; the line is 1.0</text>',
    ]
    for index, measure in enumerate(rows):
        ratio = measure.ratio or 0.0
        good = ratio <= 1 if measure.better == "lower" else ratio >= 1
        top = 26 + index * line
        label = escape(f"{measure.name} / {measure.reference}")
        parts.append(f'<text x="{left - 8}" y="{top + 13}" text-anchor="end" fill="#222">{label}</text>')
        parts.append(
            f'<rect x="{left}" y="{top + 3}" width="{max(1.0, ratio * unit):.1f}" height="13"'
            f' fill="{"#3a9d5d" if good else "#c9803a"}"/>'
        )
        parts.append(f'<text x="{left + ratio * unit + 6:.1f}" y="{top + 13}" fill="#222">{ratio:.2f}</text>')
    parts.append(f'<line x1="{left + unit:.1f}" y1="22" x2="{left + unit:.1f}" y2="{height - 8}" stroke="#888"/>')
    return "\n".join([*parts, "</svg>", ""])
