"""Every binding of every screen, dialog and widget, pressed: each must do what its line in `CASES` says can be seen.

A binding without a line fails the test of its owner, so none is added that nothing presses. What can be seen is a list
of lines (`seen`): where the app is, what has the focus, what was called, copied and written, and the screen. An
expectation is text that appears, or `~name` for a line `name=…` that changes.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from textual.binding import Binding
from textual.dom import DOMNode
from textual.widgets import Input, OptionList, SelectionList

import skilldeck_tui.screens
import skilldeck_tui.widgets
from skilldeck_tui import editor as editors
from skilldeck_tui.app import SkilldeckApp
from skilldeck_tui.cited import Made
from skilldeck_tui.preferences import Preferences
from skilldeck_tui.screens.daemon import Containers, Models
from skilldeck_tui.screens.dialogs.diff import DiffScreen
from skilldeck_tui.screens.dialogs.lint import LintScreen
from skilldeck_tui.screens.dialogs.matrix import MatrixScreen
from skilldeck_tui.screens.dialogs.save_test import SaveTest
from skilldeck_tui.widgets.log_pane import LogPane
from skilldeck_tui.widgets.rule_rows import RuleRows
from skilldeck_tui.widgets.session_list import SessionList
from skilldeck_tui.widgets.transcript.shell_call import ShellCallView
from skilldeck_tui.widgets.version_list import VersionList
from support.fake_daemon import FakeDaemon
from support.pictures import NOW, answered, go, library, working
from support.tui import Deck, deck

Scene = Callable[[Deck], Awaitable[None]]
FREE_KEY = "f10"


# ------------------------------------------------------------ what is there


def owners() -> dict[str, type[DOMNode]]:
    found: dict[str, type[DOMNode]] = {"SkilldeckApp": SkilldeckApp}
    for package in (skilldeck_tui.screens, skilldeck_tui.widgets):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(info.name)
            for name, value in vars(module).items():
                mine = isinstance(value, type) and issubclass(value, DOMNode) and value.__module__ == module.__name__
                if mine and value.__dict__.get("BINDINGS"):
                    found[name] = value
    return found


def library_and_runs() -> FakeDaemon:
    fake = FakeDaemon()
    library(fake)
    skill = next(iter(fake.objects["skill"]))
    fake.add_version(skill, {"SKILL.md": b"---\nname: csv-summary\ndescription: d\n---\n", "more.txt": b"more\n"})
    answered(fake)
    working(fake)
    session = fake.add_session("Many")["id"]
    for number in range(22):
        run = fake.start(f"ask {number}", session_id=session)
        run.response["created_at"] = int(NOW) - 60 + number
        run.text("done")
        run.complete()
    for number in range(40):
        fake.add_file(f"orders-{number}.csv", b"region,amount\n")
    fake.add_container("auto-7f3a", {"report.md": b"# Report\n"})
    fake.rules["rule_1"] = {"id": "rule_1", "kind": "shell", "prefix": "ls -l", "skills": [], "created_at": int(NOW)}
    for number in range(5):
        fake.write_log(f"{number} ms, 200", "info", "skilldeck_daemon.http")
    return fake


def seen(d: Deck) -> list[str]:
    app, chat, focused = d.app, d.chat, d.app.focused
    calls = Counter(name for name, _ in d.fake.calls)
    views = chat.transcript.item_views
    row = getattr(focused, "cursor_row", getattr(focused, "highlighted", None))
    options = [option.highlighted for option in app.screen.query(OptionList)]
    diff = app.screen if isinstance(app.screen, DiffScreen) else None
    log = [(pane.level, pane.following, pane._match) for pane in app.screen.query(LogPane)]
    return [
        f"mode={app.current_mode}", f"screen={type(app.screen).__name__}", f"focus={type(focused).__name__}",
        f"which={focused.id if focused else ''}", f"theme={app.theme}", f"copied={app.clipboard}",
        f"exited={app._exit}", f"session={chat.current}", f"turns={len(chat.turns)}", f"row={row}",
        f"options={options}", f"typed={chat.composer.text.text!r}", f"draft={chat.composer.draft}",
        f"completing={chat.composer.text.completing}", f"match={chat.transcript._match}",
        f"item={views.index(chat.transcript._cursor) if chat.transcript._cursor in views else -1}",
        f"transcript={chat.transcript.scroll_offset}", f"log={log}",
        f"scroll={getattr(focused, 'scroll_offset', None)}",
        f"input={[line.value for line in app.screen.query(Input)]}",
        f"files={sorted(path.name for path in Path.cwd().iterdir())}",
        f"diff={(diff.older, diff.newer) if diff else None}", f"sidebar={chat.query_one('#sidebar').display}",
        f"text={d.text()}", *(f"call={name} {count}" for name, count in calls.items()), *d.text().splitlines(),
    ]  # fmt: skip


def holds(expected: str, before: list[str], after: list[str]) -> bool:
    if expected.startswith("~"):
        name = expected[1:] + "="
        return [line for line in before if line.startswith(name)] != [line for line in after if line.startswith(name)]
    return "\n".join(before).count(expected) < "\n".join(after).count(expected)


# ------------------------------------------------------------ scenes


async def files(d: Deck) -> None:
    await go(d, "f4", "files")
    await d.shows("orders-0.csv", "region,amount")


async def daemon(d: Deck) -> None:
    await go(d, "f5", "daemon")
    await d.shows("auto-7f3a", "report.md", "4 ms, 200")


async def skills(d: Deck) -> None:
    await go(d, "f3", "skills")
    await d.shows("files in v3")


async def chat(d: Deck) -> None:
    d.chat.open(next(row.key for row in d.chat.rows if row.title == "Orders of March"))
    await d.shows("Two rows had no region.")


async def live(d: Deck) -> None:
    d.chat.open(next(row.key for row in d.chat.rows if row.title == "Failing hosts"))
    await d.shows("host-39")


async def many(d: Deck) -> None:
    d.chat.open(next(row.key for row in d.chat.rows if row.title == "Many"))
    await d.shows("ask 21")


async def middle(d: Deck) -> None:
    d.chat.open(d.chat.rows[1].key)
    await d.until(lambda: d.chat.turns)


def then(scene: Scene, *keys: str, until: Callable[[Deck], object] = lambda d: True) -> Scene:
    async def both(d: Deck) -> None:
        await scene(d)
        await d.press(*keys)
        await d.until(lambda: until(d))

    return both


def on(scene: Scene, widget: type[Any]) -> Scene:
    async def focused(d: Deck) -> None:
        await scene(d)
        d.app.screen.query_one(widget).focus()
        await d.until(lambda: isinstance(d.app.focused, widget))

    return focused


async def transcript(d: Deck) -> None:
    await chat(d)
    d.chat.transcript.focus()
    d.chat.transcript.select(d.chat.query(ShellCallView).first())
    await d.handled()


async def matching(d: Deck) -> None:
    await then(chat, "ctrl+f")(d)
    await d.type("region")
    await d.until(lambda: d.chat.transcript._match >= 0)


async def log_matching(d: Deck) -> None:
    await then(daemon, "slash")(d)
    await d.type("200")
    await d.until(lambda: d.app.screen.query_one(LogPane)._match >= 0)
    await d.press("escape")
    await d.until(lambda: isinstance(d.app.focused, LogPane))


async def asking(d: Deck) -> None:
    run = d.fake.start("Clean", session_id=d.fake.add_session("Cleaning")["id"])
    call = run.shell(["rm -r out"])
    d.fake.put("approval", {**d.fake.add_approval(run, ["rm -r out"]), "call_id": call.call["call_id"]})
    d.chat.open(f"session:{run.session_id}")
    await d.until(lambda: type(d.app.focused).__name__ == "ApprovalBox")


async def many_commands(d: Deck) -> None:
    run = d.fake.start("Clean", session_id=d.fake.add_session("Cleaning")["id"])
    d.fake.add_approval(run, ["rm -r out", "ls"])
    d.chat.open(f"session:{run.session_id}")
    await d.until(lambda: type(d.app.focused).__name__ == "ApprovalBox")
    await d.press("a")
    await d.shows("Never asked again")


async def prompt(d: Deck) -> None:
    for name in ("reports", "release-notes"):
        Path(name).mkdir(exist_ok=True)
    await then(skills, "a", until=lambda d: d.app.screen.query(Input))(d)
    await d.type("re")
    await d.shows("release-notes/", "reports/")


async def attached(d: Deck) -> None:
    d.chat.attach_file(d.fake.objects["file"][next(iter(d.fake.objects["file"]))])
    await d.shows("▤ orders")


async def looking(d: Deck) -> None:
    await chat(d)
    container, files = next(iter(d.fake.container_files.items()))
    d.chat.look_at(Made(container, next(iter(files)), "report.md"))
    await d.until(lambda: opened("Look")(d) and d.app.screen.data)  # type: ignore[attr-defined]


def typed(text: str, until: Callable[[Deck], object] = lambda d: True) -> Scene:
    async def write(d: Deck) -> None:
        await d.type(text)
        await d.until(lambda: until(d))

    return write


def opened(name: str) -> Callable[[Deck], bool]:
    return lambda d: type(d.app.screen).__name__ == name


async def linting(d: Deck) -> None:
    await skills(d)
    folder = Path.cwd() / "notes"
    folder.mkdir(exist_ok=True)
    (folder / "SKILL.md").write_text("---\nname: notes\nversion: 1\ndescription: Keeps notes.\n---\n# Notes\n")
    d.app.look_for_faults(folder)
    await d.until(lambda: folder in d.app.lints.found)
    await d.app.push_screen(LintScreen("notes", folder))
    await d.shows("2 findings")


def counter_folder() -> Path:
    folder = Path.cwd() / "counter"
    (folder / "evals").mkdir(parents=True, exist_ok=True)
    (folder / "SKILL.md").write_text("---\nname: counter\ndescription: Counts things.\n---\n# Steps\n")
    (folder / "evals/basic.yaml").write_text("- {name: one, prompt: Go, expect: {answer: [Echo]}}\n")
    return folder


async def matrix(d: Deck) -> None:
    """Two evaluations, the newer one shown."""
    await skills(d)
    folder = counter_folder()
    for number in (1, 2):
        (folder / "SKILL.md").write_text(f"---\nname: counter\ndescription: Counts {number} things.\n---\n")
        d.app.tests.evaluate(folder, on_error=d.app.show_error)
        await d.until(lambda: not d.app.tests.evaluating(folder))
    await d.app.push_screen(MatrixScreen("counter", folder))
    await d.shows("1 of 2", "✓ 3/3")


async def trials(d: Deck) -> None:
    await matrix(d)
    await d.press("o")
    await d.shows("try 1", "✓ passed")


async def saving(d: Deck) -> None:
    await chat(d)
    await d.press("ctrl+t")
    await d.shows("Save as a test")
    await d.until(lambda: isinstance(d.app.screen, SaveTest) and d.app.screen.proposal is not None)
    d.app.screen.query_one(".folder", Input).value = str(Path.cwd())
    (Path.cwd() / "SKILL.md").write_text("---\nname: x\ndescription: x\n---\n")
    d.app.screen.query_one(SelectionList).deselect_all()


completing = typed("/", lambda d: d.chat.composer.text.completing)
diffing = then(skills, "v", until=lambda d: isinstance(d.app.screen, DiffScreen) and d.app.screen.loaded)
top = then(transcript, "g", until=lambda d: d.chat.transcript.scroll_y == 0)
middle_item = then(transcript, "up", "up", "down")
many_top = then(many, "ctrl+home", until=lambda d: d.chat.transcript.scroll_y == 0)
last_of_many = then(many, "escape", until=lambda d: d.app.focused is d.chat.transcript)
picking = then(chat, "ctrl+l", until=opened("Pick"))
bottom = then(files, "end", until=lambda d: getattr(d.app.focused, "cursor_row", 0) > 0)

CASES: dict[str, dict[str, tuple[Scene, str]]] = {
    "SkilldeckApp": {
        "show_help_screen": (files, "screen=Help"), "mode('chat')": (files, "mode=chat"),
        "mode('skills')": (files, "mode=skills"), "mode('files')": (daemon, "mode=files"),
        "mode('daemon')": (files, "mode=daemon"), "command_palette": (files, "screen=Palette"),
        "next_approval": (files, "Nothing waits for approval."), "jump": (files, "screen=Jump"),
        "next_theme": (files, "theme=skilldeck-light"), "save_picture": (files, "Saved as"),
        "quit": (files, "exited=True"), "interrupt": (files, "ctrl+c again quits"),
    },
    "ChatScreen": {
        "new_session": (chat, "What shall it do?"), "previous": (middle, "~session"), "next": (middle, "~session"),
        "toggle_sidebar": (chat, "sidebar=False"), "attach": (chat, "screen=Prompt"), "find": (chat, "focus=Input"),
        "escape": (chat, "focus=TranscriptView"), "stop": (live, "call=CancelRun"), "rename": (chat, "screen=Prompt"),
        "export_markdown": (chat, ".md"), "export_json": (chat, ".json"), "earlier": (many, "turns=22"),
        "save_test": (chat, "screen=SaveTest"), "ask_network": (chat, "screen=Prompt"),
        "latest": (many_top, "~transcript"), "pick_model": (chat, "screen=Pick"),
        "sessions": (chat, "screen=Pick"), "delete_runs": (chat, "There is no run outside the sessions."),
        "made": (chat, "No run of this session made a file."), "retry": (many, "call=ForkSession"),
        "edit": (many, "typed='ask 21'"), "rewind": (many, "screen=Pick"), "fork": (many, "call=ForkSession"),
        "compact": (many, "call=CompactSession"), "compare": (many, "screen=Pick"),
        "skill_use": (many, "screen=SkillUse"),
        "next_permission": (chat, "asks first"), "delete_session": (chat, "screen=Confirm"),
    },
    "Confirm": {
        "answer(True)": (then(files, "d", until=opened("Confirm")), "call=DeleteFile"),
        "answer(False)": (then(files, "d", until=opened("Confirm")), "screen=FilesScreen"),
        "app.focus_next": (then(files, "d", until=opened("Confirm")), "which=yes"),
    },
    "Look": {
        "leave": (looking, "screen=ChatScreen"), "save": (looking, "Saved as"), "attach": (looking, "▤ report.md"),
        "open": (looking, "it lies at"),
    },
    "Models": {"screen.unload": (on(daemon, Models), "screen=Confirm")},
    "Containers": {
        "screen.kill": (on(daemon, Containers), "screen=Confirm"), "screen.save": (on(daemon, Containers), "report.md"),
    },
    "DaemonScreen": {
        "level": (daemon, "warning and above"), "find": (daemon, "focus=Input"),
        "follow": (daemon, "paused, f follows"), "load": (daemon, "screen=Prompt"),
        "section(1)": (daemon, "focus=Containers"),
        "section(-1)": (then(daemon, "right_square_bracket"), "focus=LogPane"),
    },
    "DiffScreen": {
        "close": (diffing, "screen=SkillsScreen"), "shift(-1)": (diffing, "~diff"),
        "shift(1)": (then(diffing, "left_square_bracket"), "~diff"), "swap": (diffing, "~diff"),
        "file(1)": (diffing, "~row"), "file(-1)": (diffing, "~row"), "copy": (diffing, "copied=---"),
    },
    "LintScreen": {
        "close": (linting, "screen=SkillsScreen"), "edit": (linting, "An editor cannot be opened here."),
        "fix": (linting, "Mended 1 finding."),
    },
    "MatrixScreen": {
        "close": (matrix, "screen=SkillsScreen"), "run": (matrix, "1 of 3"), "open": (matrix, "screen=TrialsScreen"),
        "other(1)": (matrix, "2 of 2"), "other(-1)": (then(matrix, "left_square_bracket"), "1 of 2"),
        "report": (matrix, "Written to"),
    },
    "TrialsScreen": {
        "close": (trials, "screen=MatrixScreen"), "compare": (trials, "Go to another try"),
        "open_run": (trials, "mode=chat"),
    },
    "FilesScreen": {
        "upload": (files, "screen=Prompt"), "attach": (files, "mode=chat"), "copy_id": (files, "copied=file"),
        "delete": (files, "screen=Confirm"),
    },
    "Help": {"leave": (then(files, "f1", until=opened("Help")), "screen=FilesScreen")},
    "Jump": {"leave": (then(files, "f6", until=opened("Jump")), "screen=FilesScreen")},
    "Pick": {
        "leave": (picking, "screen=ChatScreen"), "choose": (picking, "screen=ChatScreen"),
        "move(1)": (picking, "~options"),
        "move(-1)": (picking, "~options"),
    },
    "Prompt": {
        "leave": (prompt, "screen=SkillsScreen"), "complete": (prompt, "~input"), "move(1)": (prompt, "~options"),
        "move(-1)": (then(prompt, "down", "down"), "~options"),
    },
    "SaveTest": {
        "leave": (saving, "screen=ChatScreen"), "save": (saving, "A test without checks cannot fail."),
    },
    "SkillsScreen": {
        "add_folder": (skills, "screen=Prompt"), "upload_examples": (skills, "call=UploadSkill"),
        "toggle_watch": (skills, "screen=Prompt"), "diff": (skills, "screen=DiffScreen"),
        "promote": (skills, "call=SetDefaultVersion"), "edit": (skills, "has no folder here"),
        "test": (skills, "Tests run from"), "test_on_save": (skills, "Tests run from"),
        "trust": (skills, "Only skills"), "lint": (skills, "Lint reads the skill's folder"),
        "matrix": (skills, "screen=MatrixScreen"),
        "new_skill": (skills, "screen=Pick"),
        "open_run": (skills, "No test of this skill"), "use": (skills, "mode=chat"),
        "delete": (skills, "screen=Confirm"), "back": (on(skills, VersionList), "focus=DataRows"),
    },
    "ApprovalBox": {
        **{f"decide('{kind}')": (asking, "call=DecideApproval") for kind in ("once", "session", "deny")},
        "decide('always')": (asking, "which=rule"), "store": (many_commands, "call=DecideApproval"),
        "decide('note')": (asking, "focus=Input"), "later": (asking, "focus=ComposerText"),
    },
    "ComposerText": {
        "send": (typed("hi"), "call=StartRun"), "newline": (typed("hi"), "~typed"),
        "choose_skill": (typed("hi "), "completing=True"), "complete(-1)": (completing, "~options"),
        "complete(1)": (completing, "~options"), "pick": (completing, "◆ csv-summary ×"),
        "dismiss": (completing, "completing=False"), "chip": (attached, "~draft"),
        "interrupt": (typed("hi"), "typed=''"), "later": (typed("hi"), "call=StartRun"),
        "search": (typed("hi"), "screen=Pick"), "editor": (typed("hi"), "The editor did not open"),
        "page(-1)": (many, "~transcript"), "page(1)": (many_top, "~transcript"),
    },
    "DataRows": {
        "scroll_top": (bottom, "row=0"), "scroll_bottom": (files, "row=39"), "cursor_down": (files, "row=1"),
        "cursor_up": (bottom, "row=38"),
    },
    "FindBar": {
        "close": (matching, "focus=TranscriptView"), "step(1)": (matching, "~match"), "step(-1)": (matching, "~match"),
    },
    "LogPane": {
        "match(1)": (log_matching, "~log"), "match(-1)": (log_matching, "~log"),
        "copy": (on(daemon, LogPane), "~copied"),
    },
    "RuleRows": {
        "screen.edit_rule": (on(daemon, RuleRows), "screen=Prompt"),
        "screen.revoke": (on(daemon, RuleRows), "screen=Confirm"),
    },
    "SessionList": {
        "delete_session": (on(chat, SessionList), "screen=Confirm"), "mark": (on(chat, SessionList), "■ "),
        "compare_session": (then(on(many, SessionList), "up"), "screen=Compare"),
    },
    "SkillUse": {"leave": (then(last_of_many, "s", until=opened("SkillUse")), "screen=ChatScreen")},
    "Compare": {
        "leave": (then(on(many, SessionList), "up", "c", until=opened("Compare")), "screen=ChatScreen"),
    },
    "TranscriptView": {
        "cursor(-1)": (middle_item, "~item"), "cursor(1)": (middle_item, "~item"), "fold": (transcript, "~text"),
        "copy": (transcript, "copied=$"), "copy_all": (transcript, "copied=#"), "export_item": (transcript, ".md"),
        "find": (transcript, "focus=Input"), "match(1)": (then(matching, "escape"), "~match"),
        "match(-1)": (then(matching, "escape"), "~match"), "edge(-1)": (then(transcript, "G"), "~scroll"),
        "screen.made": (transcript, "No run of this session made a file."),
        "screen.retry_here": (last_of_many, "call=ForkSession"), "screen.edit_here": (last_of_many, "typed='ask 21'"),
        "screen.fork_here": (last_of_many, "call=ForkSession"), "copy_block": (transcript, "copied=cat"),
        "screen.skill_use": (transcript, "screen=SkillUse"),
        "edge(1)": (top, "~scroll"), "write": (transcript, "focus=ComposerText"),
    },
}  # fmt: skip


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("owner", sorted(owners()))
async def test_every_key_does_what_can_be_seen(owner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if owner in ("ComposerText", "Look"):
        monkeypatch.setattr(editors, "command", lambda *_: [])  # as where none is installed
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    bindings = list(Binding.make_bindings(owners()[owner].__dict__["BINDINGS"]))
    actions = {binding.action for binding in bindings}
    assert actions == set(CASES.get(owner, {})), "each action needs a line in CASES, and each line an action"
    for binding in bindings:
        key, keys = binding.key, {}
        if key.startswith("unbound_"):
            key, keys = FREE_KEY, {str(binding.id): FREE_KEY}
        scene, expected = CASES[owner][binding.action]
        async with deck(
            library_and_runs(), size=(130, 40), clock=lambda: NOW, preferences=Preferences(keys=keys, notify=False)
        ) as d:
            await scene(d)
            await d.handled()
            before = seen(d)
            await d.press(key)
            try:
                await d.until(lambda: d.app._exit or holds(expected, before, seen(d)))  # noqa: B023
            except AssertionError as error:
                raise AssertionError(f"{owner}: {key} ({binding.action}) did not show {expected!r}\n{error}") from None
            assert holds(expected, before, seen(d)), f"{key}: {expected}"
