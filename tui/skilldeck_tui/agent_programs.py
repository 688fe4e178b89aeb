"""The settings with which agent programs of others use a daemon: what their own files say, and how to take it back.

`Change.of` works out what a file would become and writes nothing. `write` keeps what was there beside it, once;
`undo` puts that back, unless the file was changed since: then what to take out is somebody's to decide.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skilldeck_shared.errors import BadRequest, Conflict, NotFound

BACKUP = ".before-skilldeck"
WRITTEN = ".by-skilldeck"
MOST_OUTPUT = 32_000
"""Tokens of an answer that opencode asks for where nobody says otherwise."""
NOTHING = "\0"
"""The backup of a file that was not there."""


@dataclass(frozen=True)
class Wanted:
    """Where the daemon is (its base URL with /v1), which model, the key where the daemon wants one, and the tokens that
    the model is served with, 0 where nobody knows: a program that is not told takes the model for a larger one, and
    never makes its prompt shorter."""

    url: str
    model: str = "default"
    key: str = ""
    context: int = 0


@dataclass(frozen=True)
class Program:
    """An agent program: where its file is, what the file becomes, and what to do besides."""

    name: str
    path: Callable[[Mapping[str, str]], Path]
    edited: Callable[[str, Wanted], str]
    then: str


@dataclass(frozen=True)
class Change:
    """One file before and after; `before` is None where there is none."""

    path: Path
    before: str | None
    after: str

    @classmethod
    def of(cls, program: Program, wanted: Wanted, environment: Mapping[str, str]) -> Change:
        """Raises BadRequest for a file that cannot be read as what it is."""
        path = program.path(environment)
        try:
            before = path.read_text("utf-8")
        except FileNotFoundError:
            before = None
        except (OSError, UnicodeDecodeError) as error:
            raise BadRequest(f"{path} cannot be read: {error}.") from None
        try:
            return cls(path, before, program.edited(before or "", wanted))
        except ValueError as error:
            raise BadRequest(
                f"{path} cannot be changed safely: {error}.", "Add the lines of docs/clients.md by hand."
            ) from None

    @property
    def nothing(self) -> bool:
        return self.before == self.after

    def shown(self) -> str:
        """The difference, as `diff -u` shows it."""
        old, new = (self.before or "").splitlines(keepends=True), self.after.splitlines(keepends=True)
        return "".join(difflib.unified_diff(old, new, str(self.path), str(self.path)))

    def write(self) -> Path:
        """Write it, and keep what was there; returns where that is. A second change keeps the first backup."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        backup, written = beside(self.path, BACKUP), beside(self.path, WRITTEN)
        untouched = written.is_file() and written.read_text("utf-8") == self.before
        if not (backup.is_file() and untouched):
            _put(backup, NOTHING if self.before is None else self.before)
        _put(written, self.after)
        _put(self.path, self.after)
        return backup


def undo(program: Program, environment: Mapping[str, str]) -> Path:
    """Put back what was there before. Raises NotFound when nothing was written, Conflict when it was changed since."""
    path = program.path(environment)
    backup, written = beside(path, BACKUP), beside(path, WRITTEN)
    if not backup.is_file() or not written.is_file():
        raise NotFound(f"Nothing of skilldeck's is in {path}.")
    if not path.is_file() or path.read_text("utf-8") != written.read_text("utf-8"):
        raise Conflict(
            f"{path} was changed since.", f"What it was before is in {backup}; take out by hand what is not wanted."
        )
    before = backup.read_text("utf-8")
    if before == NOTHING:
        path.unlink()
    else:
        _put(path, before)
    for kept in (backup, written):
        kept.unlink()
    return path


def beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _put(path: Path, text: str) -> None:
    """Whole or not at all, and readable by the owner alone: a key may be in it."""
    real = path.resolve()
    draft = real.with_name(f".{real.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    with contextlib.suppress(FileNotFoundError):
        draft.chmod(real.stat().st_mode & 0o777)
    draft.replace(real)


# ------------------------------------------------------------------ Codex

_TOP = re.compile(r"^(model|model_provider)\s*=.*$", re.MULTILINE)
_WINDOW = re.compile(r"^model_context_window\s*=.*$", re.MULTILINE)
_TABLE = re.compile(r"^\[model_providers\.skilldeck\]\n(?:(?!\[).*\n?)*", re.MULTILINE)


def _codex(text: str, wanted: Wanted) -> str:
    tomllib.loads(text)
    text = _TABLE.sub("", text)
    head, bracket, tables = text.partition("\n[") if not text.startswith("[") else ("", "[", text[1:])
    head = _TOP.sub("", _WINDOW.sub("", head) if wanted.context else head).strip("\n")
    key = 'env_key = "SKILLDECK_KEY"\n' if wanted.key else ""
    top = f'model = {json.dumps(wanted.model)}\nmodel_provider = "skilldeck"\n'
    top += f"model_context_window = {wanted.context}\n" if wanted.context else ""
    provider = (
        f'[model_providers.skilldeck]\nname = "skilldeck"\nbase_url = {json.dumps(wanted.url)}\n'
        f'wire_api = "responses"\n{key}'
    )
    rest = f"{bracket.lstrip()}{tables}".strip("\n")
    after = "\n".join(
        part for part in (top + (f"{head}\n" if head else ""), f"{rest}\n" if rest else "", provider) if part
    )
    found = tomllib.loads(after)
    if found["model_providers"]["skilldeck"]["base_url"] != wanted.url or found["model_provider"] != "skilldeck":
        raise ValueError("its tables are not where they are expected")
    return after


# ------------------------------------------------------------------ JSON: Claude Code, opencode


def _json_object(text: str) -> dict[str, Any]:
    found = json.loads(text or "{}")
    if not isinstance(found, dict):
        raise ValueError("it holds no JSON object")
    return found


def _inner(holder: dict[str, Any], name: str) -> dict[str, Any]:
    found = holder.setdefault(name, {})
    if not isinstance(found, dict):
        raise ValueError(f"its {name!r} is no object")
    return found


def _written(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _claude(text: str, wanted: Wanted) -> str:
    settings = _json_object(text)
    _inner(settings, "env").update(
        {
            "ANTHROPIC_BASE_URL": wanted.url.removesuffix("/v1"),
            "ANTHROPIC_AUTH_TOKEN": wanted.key or "local",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            **({"ANTHROPIC_MODEL": wanted.model} if wanted.model != "default" else {}),
        }
    )
    return _written(settings)


def _opencode(text: str, wanted: Wanted) -> str:
    settings = _json_object(text)
    # Of the context it leaves so much to an answer, and makes the rest shorter before it is full.
    limit = {"context": wanted.context, "output": min(wanted.context // 4, MOST_OUTPUT)}
    settings.setdefault("$schema", "https://opencode.ai/config.json")
    _inner(settings, "provider")["skilldeck"] = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "skilldeck",
        "options": {"baseURL": wanted.url, "apiKey": wanted.key or "local"},
        "models": {wanted.model: {"limit": limit} if wanted.context else {}},
    }
    settings["model"] = f"skilldeck/{wanted.model}"
    return _written(settings)


def _home(environment: Mapping[str, str], variable: str, *inside: str) -> Path:
    given = environment.get(variable)
    return Path(given) if given else Path(environment.get("HOME") or Path.home()).joinpath(*inside)


def _opencode_path(environment: Mapping[str, str]) -> Path:
    folder = _home(environment, "XDG_CONFIG_HOME", ".config") / "opencode"
    commented = folder / "opencode.jsonc"
    return commented if commented.is_file() else folder / "opencode.json"


PROGRAMS = {
    "codex": Program(
        "codex",
        lambda environment: _home(environment, "CODEX_HOME", ".codex") / "config.toml",
        _codex,
        'codex exec "hi"',
    ),
    "claude": Program(
        "claude",
        lambda environment: _home(environment, "CLAUDE_CONFIG_DIR", ".claude") / "settings.json",
        _claude,
        "claude -p hi",
    ),
    "opencode": Program("opencode", _opencode_path, _opencode, 'opencode run "hi"'),
}
