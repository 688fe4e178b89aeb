"""Cures that are mechanical, carried out in the folder: edits of text files, and executable bits."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from skilldeck_shared.errors import BadRequest
from skilldeck_shared.lint.rules import Edit, Executable, Finding

ROUNDS = 30
"""A mended place may show the next fault (two fields that both move below metadata)."""


def fix(folder: Path, look: Callable[[], list[Finding]]) -> list[Finding]:
    """Mend what `look` finds until nothing mechanical is left; returns what was mended. Blocks.

    Files are replaced as wholes, so that nobody sees half of one. Raises BadRequest when one cannot be written.
    """
    mended: list[Finding] = []
    for _ in range(ROUNDS):
        done = _round(folder, [finding for finding in look() if finding.fix is not None])
        mended += done
        if not done:
            break
    return mended


def _round(folder: Path, findings: Sequence[Finding]) -> list[Finding]:
    done: list[Finding] = []
    edits: dict[str, list[tuple[Edit, Finding]]] = {}
    for finding in findings:
        if isinstance(finding.fix, Executable):
            place = (folder / finding.fix.path).resolve()
            mode = place.stat().st_mode
            _written(place, partial(place.chmod, mode | (mode & 0o444) >> 2))
            done.append(finding)
        elif finding.fix is not None:
            edits.setdefault(finding.fix.path, []).append((finding.fix, finding))
    for path, wanted in edits.items():
        place = (folder / path).resolve()
        text = place.read_bytes().decode("utf-8")
        before = len(text) + 1
        # From the end, so that places stay true; an edit that touches the one before waits for the next round.
        for edit, finding in sorted(wanted, key=lambda pair: (pair[0].start, pair[0].end), reverse=True):
            if edit.end > before:
                continue
            text = text[: edit.start] + edit.new + text[edit.end :]
            before = edit.start
            done.append(finding)
        _written(place, partial(_replace, place, text.encode("utf-8")))
    return done


def _replace(place: Path, data: bytes) -> None:
    aside = place.with_name(f".#{place.name}")
    try:
        aside.write_bytes(data)
        aside.chmod(place.stat().st_mode & 0o7777)
        os.replace(aside, place)
    finally:
        with suppress(OSError):
            aside.unlink()


def _written(place: Path, write: Callable[[], object]) -> None:
    try:
        write()
    except OSError as error:
        raise BadRequest(f"{place} cannot be mended: {error.strerror}.", "Check its permissions.") from error
