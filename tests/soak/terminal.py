"""An hour of a person (and a cat) at a real terminal: `cd tests && python -m soak.terminal --minutes 60`.

The TUI runs in tmux on a daemon of its own, whose model is scripted (or a file: `--model`). Random keys, bursts,
pastes, clicks, wheels, resizes; runs that stream, call, fail and never end; runs of other clients; a watched skill that
is saved whole and broken; the daemon killed, stopped and started again. Every few steps the person comes back to their
senses: whatever is open is left, and every mode must show itself. Loopback only; all is in a temporary directory.

A fault is a TUI that ends with another status than 0, a traceback, a screen that does not come, and what no program
should leave on a screen. Prints one JSON object; exit status 1 when there was one. Screens of faults go to `--keep`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from soak.daemon import Service
from support.scripted_model import (
    Answer,
    Drop,
    Fail,
    Part,
    Reasoning,
    ScriptedModel,
    Text,
    Turn,
    shell,
)
from support.tmux import Tmux, surroundings

SIZES = ((80, 24), (120, 40), (60, 20), (200, 60), (50, 30), (40, 12), (20, 6), (133, 9), (8, 3))
LETTERS = "abcdefghijklmnopqrstuvwxyzBCGNT123450/?[]!@#."
KEYS = (
    "Enter", "Enter", "Enter", "Escape", "Escape", "Tab", "BTab", "Up", "Down", "Left", "Right", "PPage", "NPage",
    "Home", "End", "BSpace", "DC", "Space", "F1", "F2", "F2", "F3", "F3", "F4", "F5", "F5", "F6", "F7", "F8", "F9",
    "C-n", "C-b", "C-f", "C-k", "C-l", "C-r", "C-o", "C-p", "C-y", "C-s", "C-t", "C-g", "C-a", "C-e", "C-u", "C-w",
    "C-z", "C-c", "C-Home", "C-End", "M-Up", "M-Down", "M-Enter", "C-Up", "C-Down", "S-Up", "S-Down", "S-Left", "C-j",
)  # fmt: skip
WORDS = (
    "hello", "/help", "/compact", "/retry", "/fork", "/rewind", "/edit", "/trace", "/compare", "/files", "/sessions",
    "/model x", "/new again", "/export md", "/rename A name", "/find a", "/notes read it", "/nothing", "!ls -la",
    "!printf '\\033[31mred\\033[0m\\n'; echo made > made.txt", "!sleep 3", "@notes.md#1-2 and @nope", "@no",
    "line one\nline two", "日本語 🙂 e\u0301", "\x1b[31mred\x1b[0m", "a" * 300, "[b]no[/markup] [link", "word " * 120,
)  # fmt: skip
SAID = (
    "# A title\n\nSome **bold** text, `code`, a [link](https://example.org/x) and 日本語 🙂.\n\n",
    "| name | count |\n|:--|--:|\n| north | 12 |\n| a longer name | 4,810.20 |\n\n",
    "```python\ndef f(x):\n    return x + 1  # " + "long " * 60 + "\n```\n\n",
    "```diff\n- was\n+ is\n```\n\n",
    "- [x] done\n- [ ] not yet\n  - deeper\n\n1. one\n2. two\n\n",
    "> quoted\n> twice\n\n---\n\n",
    "\x1b[31mnot red\x1b[0m \x07 \u202eturned\u202c [b]not bold[/b]\n\n",
    "A paragraph. " * 40 + "\n\n",
    "```\nnever closed\n",
)
COMMANDS = (
    "ls -la", "seq 400", "printf '\\033[1;32mgreen\\033[0m \\033[38;5;208mor\\033[0m\\n'", "sleep 2; echo slept",
    "head -c 2000 /dev/urandom", "echo '# Report' > report.md; printf 'a,b\\n1,2\\n' > table.csv", "exit 3",
    "cat /mnt/skills/notes/SKILL.md", "for i in $(seq 40); do echo line $i; sleep 0.05; done", "echo oops >&2",
    "yes long | head -c 300000",
)  # fmt: skip
SKILL = "---\nname: notes\ndescription: Keeps notes{more}.\n---\n# Notes\n\nRead `notes.md`. {text}\n"
LONG = "".join(f"Part {number} of what takes half a minute.\n{chr(10) * (number % 3 == 0)}" for number in range(120))
FOREIGN = ("Traceback (most recent call last)", "[200~", "[201~", "^[[", "[<0;", "[<64;")
"""What no screen of ours shows: a program's end, and what a terminal sent that nobody understood."""
MODES = {"F2": "^n New", "F3": "Add folder", "F4": "t Attach to chat", "F5": "Log level"}
"""What the last line of each says."""
PATIENT = 20
"""Looks, half a second apart, in which it must have gone."""
STUCK = 60.0
"""Seconds in which a screen must come."""


@dataclass
class Hour:
    """What happened."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest: float = 0.0
    resident: list[tuple[int, int]] = field(default_factory=list)  # of the TUI: seconds of the hour, KiB


class Person:
    """Whoever sits there. `home` holds all of their files."""

    def __init__(self, home: Path, service: Service, dice: random.Random, keep: Path | None) -> None:
        self.home, self.service, self.dice, self.keep = home, service, dice, keep
        self.hour, self.done = Hour(), deque[str](maxlen=60)
        self.begun = time.monotonic()
        self._away: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[None]] = set()
        place = home / "work"
        place.mkdir()
        (place / "notes.md").write_text("one\ntwo\nthree\n")
        self._save()
        program = f"{shlex.quote(sys.executable)} -m skilldeck_tui --socket {shlex.quote(str(home / 's'))} --no-start"
        self.command = f"cd {shlex.quote(str(place))}; {program}; echo left with $?"
        # What they open goes nowhere: an editor and a browser that are content with everything.
        environment = {**surroundings(home), "HOME": str(home), "VISUAL": "true", "BROWSER": "true"}
        self.tmux = Tmux(home, 100, 30, self.command, environment)
        self.tmux.stay()
        self.hour.counts["starts"] += 1

    # ------------------------------------------------------------ what they do

    def _save(self) -> None:
        """The skill in its folder, sometimes broken."""
        folder = self.home / "work" / "notes"
        (folder / "evals").mkdir(parents=True, exist_ok=True)
        more = ": a: b" if self.dice.random() < 0.2 else ""
        (folder / "SKILL.md").write_text(SKILL.format(more=more, text="Saved. " * self.dice.randrange(9)))
        (folder / "evals" / "one.yaml").write_text("- name: it reads\n  prompt: Read.\n  expect:\n    answer: .\n")

    def _press(self, *keys: str) -> None:
        self.hour.counts["keys"] += len(keys)
        self.tmux.keys(*keys)

    def _some_key(self) -> str:
        return self.dice.choice(KEYS) if self.dice.random() < 0.6 else self.dice.choice(LETTERS)

    def _mouse(self) -> None:
        width, height = map(int, self.tmux.size().split("x"))
        x, y = self.dice.randint(1, width), self.dice.randint(1, height)
        button = self.dice.choice((0, 0, 0, 2, 64, 65))
        self.tmux.type(f"\x1b[<{button};{x};{y}M" + ("" if button > 2 else f"\x1b[<{button};{x};{y}m"))

    async def step(self) -> None:
        """One thing that a person, a cat or the world may do."""
        what, dice = self.dice.random(), self.dice
        if what < 0.45:
            self._note("key", key := self._some_key())
            self._press(key)
        elif what < 0.57:
            keys = [self._some_key() for _ in range(dice.randint(2, 8))]
            self._note("burst", " ".join(keys))
            self._press(*keys)
        elif what < 0.67:
            text = dice.choice(WORDS).replace("\n", " ").replace("\x1b", "")
            self._note("type", text)
            self.hour.counts["keys"] += len(text) + 1
            self.tmux.type(text)
            self.tmux.keys("Enter")
        elif what < 0.71:
            self._note("paste", text := dice.choice(WORDS))
            self.tmux.paste(text)
        elif what < 0.79:
            self._note("ask", "")
            self._press("Escape", "Escape", "F2")
            await asyncio.sleep(0.1)
            self._press("i")
            self.tmux.type(f"go on {dice.randrange(1000)}")
            self._press(dice.choice(("Enter", "Enter", "Tab", "M-Enter")))
        elif what < 0.85:
            self._note("mouse", "")
            self._mouse()
        elif what < 0.92:
            width, height = dice.choice(SIZES) if dice.random() < 0.7 else (dice.randint(2, 220), dice.randint(2, 70))
            self._note("resize", f"{width}x{height}")
            self.tmux.resize(width, height)
        elif what < 0.95:
            self._note("save", "the skill")
            self._save()
        elif what < 0.985:
            self._note("other client", "")
            self._spawn(self._another_client())
        elif self._away is None or self._away.done():
            self._away = asyncio.create_task(self._restart())

    def _note(self, kind: str, detail: str) -> None:
        self.hour.counts[kind] += 1
        self.done.append(f"{kind} {detail!r}" if detail else kind)

    def _spawn(self, call: Any) -> None:
        task = asyncio.create_task(call)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _another_client(self) -> None:
        tools = [{"type": "shell", "environment": {"type": "container_auto"}}]
        body = {"model": "default", "input": "from elsewhere", "background": True, "tools": tools}
        try:
            async with httpx.AsyncClient(base_url=self.service.url, trust_env=False, timeout=30) as http:
                await http.post("/v1/responses", json=body)
        except httpx.HTTPError:  # it is away
            pass

    async def _restart(self) -> None:
        how = self.dice.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
        self._note("daemon", how.name)
        await self.service.stop(how)
        await asyncio.sleep(self.dice.random() * 8)
        await self.service.start()
        self._note("daemon", "is back")

    # ------------------------------------------------------------ what they see

    def look(self) -> bool:
        """Whether all is well so far; a TUI that was left is started again."""
        for _ in range(PATIENT):
            if self.tmux.ended():
                break
            screen = self.tmux.screen()
            found = next((text for text in FOREIGN if text in screen), "")
            if not found:
                return True
            time.sleep(0.5)  # while an editor opens, or on the way out, the terminal shows what is typed
        else:
            return self.fault(f"{found!r} is on the screen", screen)
        screen = self.tmux.screen(back=400)
        if "left with 0" not in screen or "Traceback" in screen:
            return self.fault("the TUI ended", screen)
        self.hour.counts["starts"] += 1
        self.done.append("left, and started again")
        self.tmux.again(self.command)
        return True

    async def senses(self) -> bool:
        """Leave whatever is open and see every mode; True when each shows itself, at a size that holds it."""
        width, height = self.dice.choice(SIZES[:4])
        self.done.append(f"senses at {width}x{height}")
        self.tmux.resize(width, height)
        for key, word in MODES.items():
            begun = time.monotonic()
            # A dialog takes all keys, but for escape.
            while word not in self.tmux.screen():
                if time.monotonic() - begun > STUCK:
                    told = f"{key} shows no {word!r} in {STUCK:g} s"
                    return self.fault(told, f"{self.tmux.screen()}\n{self._stacks()}")
                if not self.look():
                    return False
                self._press("Escape")
                await asyncio.sleep(0.2)
                self._press(key)
                for _ in range(20):  # a busy machine answers late: more keys would make it later
                    await asyncio.sleep(0.1)
                    if word in self.tmux.screen():
                        break
            self.hour.slowest = max(self.hour.slowest, time.monotonic() - begun)
        self._remember()
        return True

    def _pid(self) -> str:
        """Of the TUI. Raises OSError or IndexError where it has ended."""
        return Path(f"/proc/{self.tmux.pid()}/task/{self.tmux.pid()}/children").read_text().split()[0]

    def _stacks(self) -> str:
        """What it is doing, where py-spy can tell."""
        if shutil.which("py-spy") is None:
            return ""
        ask = ["py-spy", "dump", "--pid", self._pid()]
        dumps = [subprocess.run(ask, capture_output=True, text=True, check=False) for _ in range(3)]
        return "\n".join(dump.stdout + dump.stderr for dump in dumps)

    def _remember(self) -> None:
        """What the TUI takes of the memory."""
        try:
            for line in Path(f"/proc/{self._pid()}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    self.hour.resident.append((round(time.monotonic() - self.begun), int(line.split()[1])))
        except (OSError, IndexError):
            pass

    def fault(self, what: str, screen: str) -> bool:
        at = time.monotonic() - self.begun
        told = f"{what}, after {at:.0f} s; before it: {' · '.join(self.done)}"
        self.hour.faults.append(told)
        if self.keep is not None:
            self.keep.mkdir(parents=True, exist_ok=True)
            (self.keep / f"fault-{len(self.hour.faults)}.txt").write_text(f"{told}\n\n{screen}")
        print(f"{told}\n{screen}", file=sys.stderr, flush=True)
        return False

    async def close(self) -> None:
        self.tmux.close()
        if self._away is not None:
            await asyncio.gather(self._away, return_exceptions=True)
        await asyncio.gather(*self._calls, return_exceptions=True)


def answers(dice: random.Random) -> Callable[[dict[str, Any]], Answer]:
    """The model: whatever comes to its mind."""

    def said() -> Text:
        return Text("".join(dice.choices(SAID, k=dice.randint(1, 6))), dice.randint(2, 40))

    def answer(body: dict[str, Any]) -> Answer:
        calls, what = any(message["role"] == "tool" for message in body["messages"][-1:]), dice.random()
        parts: list[Part] = [Reasoning("I think. " * dice.randint(1, 60), 5)] if dice.random() < 0.2 else []
        if body.get("tools") and what < (0.25 if calls else 0.55):
            return Turn(*parts, said(), shell(*dice.choices(COMMANDS, k=dice.randint(1, 3))))
        if what < 0.62:
            return Turn(*parts, said(), Text(LONG, 14, 0.08))
        if what < 0.66:
            return Fail(dice.choice((400, 500, 503)), "It broke.")
        if what < 0.69:
            return Turn(*parts, said(), Drop())
        return Turn(*parts, said())

    return answer


async def hour(home: Path, *, seconds: float, seed: int, model: str = "", keep: Path | None = None) -> Hour:
    """Sit there for that long, or until something is wrong."""
    dice = random.Random(seed)
    with ScriptedModel(strict=False, always=answers(random.Random(seed + 1))) as scripted:
        service = Service(home, scripted.url, model=model)
        await service.start()
        person = Person(home, service, dice, keep)
        try:
            person.tmux.shows("skilldeck" if model else "● ready")
            person.tmux.keys("F3")
            await asyncio.sleep(1)
            person.tmux.keys("a")
            await asyncio.sleep(0.5)
            person.tmux.type(str(home / "work" / "notes"))
            person.tmux.keys("Enter")
            await _sit(person, seconds)
        finally:
            await person.close()
            await service.stop(signal.SIGKILL)
            service.remove()
    return person.hour


async def _sit(person: Person, seconds: float) -> None:
    told = next_ = time.monotonic()
    while (now := time.monotonic()) - person.begun < seconds:
        await person.step()
        await asyncio.sleep(person.dice.choice((0.0, 0.05, 0.1, 0.2, 0.5)))
        if not person.look():
            return
        if now > next_:
            next_ = now + person.dice.uniform(10, 30)
            if not await person.senses():
                return
        if now - told > 60:
            told = now
            counts = ", ".join(f"{name} {count}" for name, count in sorted(person.hour.counts.items()))
            print(f"{(now - person.begun) / 60:.0f} min: {counts}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="soak.terminal", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--model", default="", help="a model of the daemon's own, instead of the scripted one")
    parser.add_argument("--keep", type=Path, default=None, help="a folder for screens of faults")
    parser.add_argument("--seed", type=int, default=None)
    asked = parser.parse_args()
    seed = asked.seed if asked.seed is not None else random.randrange(10**6)
    print(f"seed {seed}", file=sys.stderr, flush=True)
    home = Path(tempfile.mkdtemp(prefix="skilldeck-terminal-"))
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # which would double every start
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        result = asyncio.run(hour(home, seconds=asked.minutes * 60, seed=seed, model=asked.model, keep=asked.keep))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    step = max(1, len(result.resident) // 20)
    report = {
        "seed": seed,
        "minutes": asked.minutes,
        **dict(sorted(result.counts.items())),
        "slowest_screen_s": round(result.slowest, 1),
        "resident_kib": result.resident[::step],
        "faults": result.faults,
    }
    print(json.dumps(report, indent=1, ensure_ascii=False))
    return int(bool(result.faults))


if __name__ == "__main__":
    sys.exit(main())
