"""The TUI: four modes over one connection to the daemon.

It owns the mirrored state and the folder watcher; screens show them. A lost daemon never ends it: what is on the screen
stays, and everything is read again when the daemon is back. Nothing in here loads the daemon or its dependencies, and
what only the connection and the watcher need (gRPC, protobuf, watchfiles, yaml: a quarter of what there is to import)
is loaded after the first paint, beside the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from textual import work
from textual.binding import BindingType
from textual.filter import LineFilter
from textual.screen import Screen

from skilldeck_shared.errors import SkilldeckError
from skilldeck_tui import actions
from skilldeck_tui.chat.composing.history import History
from skilldeck_tui.client.types import Snapshot
from skilldeck_tui.heap import collect_less
from skilldeck_tui.modes import MODES
from skilldeck_tui.palette import ActionCommands
from skilldeck_tui.preferences import Memory, Preferences
from skilldeck_tui.screens.base import ModeScreen
from skilldeck_tui.screens.chat import ChatScreen
from skilldeck_tui.screens.dialogs.dialog import Dialogs
from skilldeck_tui.screens.dialogs.help import Help
from skilldeck_tui.skill_tests.background import SkillTests
from skilldeck_tui.skills.lints import SkillLints
from skilldeck_tui.state import DaemonState
from skilldeck_tui.terminal import clipboard
from skilldeck_tui.terminal.notices import News, notice
from skilldeck_tui.terminal.safe_lines import SafeLines
from skilldeck_tui.theme import CYCLE, DARK, THEMES, shades

if TYPE_CHECKING:
    from skilldeck_shared.lint.skill import Neighbour
    from skilldeck_tui.client.client import Client
    from skilldeck_tui.watching.watcher import FolderWatcher, WatchState

FRAME = 1 / 30
RECOVERED_SECONDS = 3.0
AGAIN_SECONDS = 2.0
"""Within which a second ctrl+c quits."""
T = TypeVar("T")


def _screen(mode: str) -> Callable[[], Screen[Any]]:
    """The screen of a mode, imported when it is first shown: the first paint need not wait for all four."""

    def make() -> Screen[Any]:
        module = import_module(f"skilldeck_tui.screens.{mode}")
        screen: Screen[Any] = getattr(module, f"{mode.capitalize()}Screen")()
        return screen

    return make


class SkilldeckApp(Dialogs):
    """`client` gives the connection, always the same, closed by whoever made it; `open_run` is shown at the start."""

    TITLE = "skilldeck"
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {mode: _screen(mode) for mode in MODES}
    DEFAULT_MODE = "chat"
    COMMANDS = {ActionCommands}
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("app")]
    CSS = """
    Toast { background: $panel; }
    /* At the bottom they would lie on what is being written. */
    ToastRack { dock: top; align: right top; margin: 1 0 0 0; }
    /* The ANSI themes have one background: what is selected is reversed. */
    .-theme-ansi-dark .tab.-active, .-theme-ansi-light .tab.-active { text-style: bold reverse; }
    .-theme-ansi-dark OptionList > .option-list--option-highlighted { text-style: reverse; }
    .-theme-ansi-light OptionList > .option-list--option-highlighted { text-style: reverse; }
    CommandPalette > Vertical { width: 84; max-width: 96%; margin-top: 2; }
    CommandPalette #--input { border: round $primary; background: $surface; }
    CommandPalette #--input.--list-visible { border-bottom: round $primary; }
    /* An emoji, of whose width terminals disagree. */
    CommandPalette SearchIcon { display: none; }
    CommandPalette CommandList {
        border: round $border; background: $surface; text-wrap: nowrap; text-overflow: ellipsis; max-height: 70vh;
    }
    * { scrollbar-size-vertical: 1; }
    """

    def __init__(
        self,
        client: Callable[[], Client],
        *,
        preferences: Preferences | None = None,
        memory: Memory | None = None,
        open_run: str = "",
        mode: str = "chat",
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._connected = client
        self.preferences = preferences or Preferences()
        self.memory = memory or Memory()
        self.clock = clock
        self.monotonic = time.monotonic
        self.state = DaemonState(clock)
        self.tests = SkillTests(client, lambda: self.touch({"tests"}))
        self.lints = SkillLints(lambda: self.touch({"lint"}))
        self.history = History(self.memory.path and self.memory.path.with_name("history.jsonl"))
        self.opening = f"run:{open_run}" if open_run else ""
        self._mode = mode
        self._topics: set[str] = set()
        self._scheduled = False
        self._shown = 0.0
        self._instance = ""
        self._news = News()
        self._draft_kept = True
        self._interrupted = -AGAIN_SECONDS
        self._safe_lines = SafeLines()
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = self.preferences.theme or self.memory.theme or DARK.name
        if self.preferences.keys:
            found = actions.keymap(self.preferences.keys)
            self.set_keymap({name: keys or actions.BY_ID[name].unbound for name, keys in found.items()})

    def get_line_filters(self) -> Sequence[LineFilter]:
        return [*super().get_line_filters(), self._safe_lines]

    def on_mount(self) -> None:
        if self._mode != self.current_mode:
            self.switch_mode(self._mode)
        self.set_interval(1.0, self._second)
        self.call_after_refresh(self._begin)

    @work(group="begin")
    async def _begin(self) -> None:
        await asyncio.to_thread(import_module, "skilldeck_tui.client.client")
        self._follow()
        # Else the first answer's first words would wait for Markdown and its highlighting to be loaded.
        await asyncio.to_thread(import_module, "skilldeck_tui.widgets.transcript.message")
        await asyncio.to_thread(import_module, "skilldeck_tui.watching.watcher")
        for folder in self.memory.watched:
            self.watcher.add(Path(folder))
        self._watch()
        collect_less()

    async def on_unmount(self) -> None:
        self._write_draft()
        await self.tests.close()
        await self.lints.close()

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Two weaker shades of the text, for every theme: `$muted` for what is read second, `$faint` for third."""
        return shades(self.current_theme)

    @property
    def client(self) -> Client:
        return self._connected()

    @cached_property
    def watcher(self) -> FolderWatcher:
        from skilldeck_tui.watching.watcher import FolderWatcher

        return FolderWatcher(self.client, on_state=self._watched)

    # ------------------------------------------------------------ the daemon

    @work(group="follow")
    async def _follow(self) -> None:
        try:
            async for update in self.client.follow():
                self.touch(self.state.apply(update))
                if isinstance(update, Snapshot):
                    self._snapshot(update)
        except SkilldeckError as error:
            # Another release of the daemon, or a refusal: trying again changes nothing.
            self.state.give_up(error)
            self.touch({"link"})

    def _snapshot(self, snapshot: Snapshot) -> None:
        if self._instance and snapshot.instance != self._instance:
            self.watcher.recheck()
        first, self._instance = not self._instance, snapshot.instance
        self.look_on_disk()
        self._news.known(snapshot.runs)
        self.set_timer(RECOVERED_SECONDS, self._settle)
        if first and self.opening:
            chat = self.mode_screen("chat")
            if isinstance(chat, ChatScreen):
                self.call_later(chat.open, self.opening)

    def _settle(self) -> None:
        self.state.settle()
        self.touch({"link"})

    @work(group="watch")
    async def _watch(self) -> None:
        await self.watcher.run()

    def _watched(self, state: WatchState) -> None:
        self.state.watches[state.folder] = state
        self.touch({"watch"})
        if state.state in ("current", "error"):
            self.look_for_faults(state.folder)
        if state.state == "current" and state.made and str(state.folder) in self.memory.tested:
            self.tests.start(state.folder, saved=True)

    @work(exclusive=True, group="disk")
    async def look_on_disk(self) -> None:
        """No event says that a skill on disk changed: they are looked for when the daemon is found, and whenever Skills
        comes up."""
        try:
            found, _ = await self.client.disk_skills(str(Path.cwd()))
        except SkilldeckError:  # the banner says so
            return
        if found != self.state.disk:
            self.state.disk = found
            self.touch({"skill"})

    def neighbours(self) -> list[Neighbour]:
        """The skills that a model chooses among."""
        from skilldeck_shared.lint.skill import Neighbour

        return [Neighbour(str(s.get("name") or ""), str(s.get("description") or "")) for s in self.state.skills]

    def look_for_faults(self, folder: Path) -> None:
        """Lint a skill's folder, in the background."""
        self.lints.look(folder, self.neighbours())

    # ------------------------------------------------------------ changes

    def touch(self, topics: Iterable[str]) -> None:
        """Something changed: the visible mode shows it, at once after a quiet spell, else in the next frame."""
        self._topics |= set(topics)
        if self._topics and not self._scheduled and self.is_running:
            self._scheduled = True
            wait = self._shown + FRAME - self.monotonic()
            if wait > 0:
                self.set_timer(wait, self._show_changes)
            else:
                self.call_next(self._show_changes)

    def _show_changes(self) -> None:
        self._scheduled = False
        self._shown = self.monotonic()
        topics, self._topics = self._topics, set()
        if "run" in topics or "approval" in topics:
            self._notices()
        chat = self.mode_screen("chat")
        if isinstance(chat, ChatScreen) and topics & {"run", "session", "link"}:
            chat.go_on()  # in whichever mode the person is
        screen = self.mode_screen()
        if screen is not None:
            screen.show_state(topics)

    def mode_screen(self, mode: str = "") -> ModeScreen | None:
        """The screen of a mode (default: the present one), below any dialog; None before it was ever shown."""
        stack = self._screen_stacks.get(mode or self.current_mode, [])
        return stack[0] if stack and isinstance(stack[0], ModeScreen) else None

    def _second(self) -> None:
        self.state.sample()
        self._write_draft()
        screen = self.mode_screen()
        if screen is not None and screen.is_mounted:
            screen.tick_second()

    def _notices(self) -> None:
        """Publish what needs or interests a person who looks elsewhere."""
        for approval in self._news.waiting(self.state.approvals):
            chat = self.mode_screen("chat")
            visible = isinstance(chat, ChatScreen) and approval.get("run_id") in chat.run_ids
            if self.current_mode != "chat" or not visible:
                self.notify("A command waits for approval. ctrl+y shows it.", severity="warning")
            self._outside("skilldeck asks", " · ".join(map(str, approval.get("commands") or [])))
        for word, title in self._news.ended(self.state.runs):
            self._outside(f"skilldeck: {word}", title)

    def _outside(self, title: str, text: str) -> None:
        if self.preferences.notify and not self.app_focus and self._driver is not None and not self.is_headless:
            self._driver.write(notice(title, text))

    def notify(self, message: str, **options: Any) -> None:
        """As Textual's, of plain text: names of files and words of errors are no markup, which would end the app where
        it is wrong."""
        super().notify(message, **{**options, "markup": False})

    # ------------------------------------------------------------ helpers of screens

    def show_error(self, error: SkilldeckError) -> None:
        """Show an error with its hint."""
        self.notify(error.hint or error.title, title=error.title if error.hint else "", severity="error", markup=False)

    def doing(self, call: Callable[[T | None], Awaitable[None]]) -> Callable[[T | None], None]:
        """A dialog's callback that runs `call` in the background and shows its errors."""

        async def run(value: T | None) -> None:
            try:
                await call(value)
            except SkilldeckError as error:
                self.show_error(error)

        return lambda value: (self.run_worker(run(value)), None)[1]

    def attempt(self, call: Awaitable[object], *, group: str = "default", exclusive: bool = False) -> None:
        """Run a call to the daemon in the background; its error is shown."""

        async def run() -> None:
            try:
                await call
            except SkilldeckError as error:
                self.show_error(error)

        self.run_worker(run(), group=group, exclusive=exclusive)

    def copy(self, text: str, what: str) -> None:
        """Copy through the terminal (OSC 52), which also works over SSH."""
        if not text:
            self.notify("There is nothing to copy.", severity="warning")
            return
        self.copy_to_clipboard(text)
        kept = clipboard.keep(text)
        also = f" It is in {kept}, too." if kept else ""
        self.notify(f"Copied {what}.{also}", timeout=8 if kept else 2, markup=False)

    def attach(self, file: dict[str, Any]) -> None:
        """Attach a file of the daemon to the next message, and go there."""
        self._in_chat(lambda chat: chat.attach_file(file))

    def use_skill(self, skill_id: str) -> None:
        """Choose a skill for the next message, and go there."""
        self._in_chat(lambda chat: chat.composer.choose_skill(skill_id))

    def open_run(self, run_id: str) -> None:
        """Show a run in Chat."""
        self._in_chat(lambda chat: chat.open(f"run:{run_id}"))

    def load_model(self) -> None:
        """Ask for a model to load, and go where its loading is shown."""
        self.action_mode("daemon")
        screen = self.mode_screen("daemon")
        if screen is not None:
            self.call_after_refresh(self.run_action, "load", screen)

    def _in_chat(self, call: Callable[[ChatScreen], None]) -> None:
        self.action_mode("chat")
        chat = self.mode_screen("chat")
        if isinstance(chat, ChatScreen):
            call(chat)
            self.call_after_refresh(chat.composer.text.focus)

    def keep_draft(self, text: str) -> None:
        """What is being written, for the next time."""
        if text != self.memory.draft:
            self.memory.draft, self._draft_kept = text, False

    def _write_draft(self) -> None:
        if not self._draft_kept:
            self._draft_kept = True
            self.memory.write()

    def remember_watch(self, folder: Path, watched: bool) -> None:
        """Watch the folder also the next time."""
        self.memory.remember("watched", folder, watched)

    def remember_tests(self, folder: Path, on_save: bool) -> None:
        """Run the folder's tests after every save, from now on and the next time."""
        self.memory.remember("tested", folder, on_save)
        self.touch({"tests"})

    # ------------------------------------------------------------ actions

    def action_mode(self, mode: str) -> None:
        if self.current_mode != mode:
            self.switch_mode(mode)

    def action_show_help_screen(self) -> None:
        if isinstance(self.screen, Help):
            return
        scopes = [scope for scope in self._focused_scopes() if scope in actions.SCOPES]
        self.push_screen(Help([*dict.fromkeys([*scopes, "app"])], actions.keymap(self.preferences.keys)))

    def _focused_scopes(self) -> list[str]:
        """Scopes of the focused widget and what surrounds it, then those of its screen."""
        titles = {title: scope for scope, title in actions.SCOPES.items()}
        chain = [node.BINDING_GROUP_TITLE for node, _ in self._binding_chain]
        screen = self.screen
        more = screen.SCOPES if isinstance(screen, ModeScreen) else ()
        return [titles[title] for title in chain if title in titles] + list(more)

    def action_next_approval(self) -> None:
        pending = self.state.approvals
        if not pending:
            self.notify("Nothing waits for approval.", timeout=2)
            return
        run_id = str(pending[0].get("run_id"))
        self.action_mode("chat")
        chat = self.mode_screen("chat")
        if isinstance(chat, ChatScreen):
            self.call_after_refresh(chat.show_approval, run_id)

    def action_interrupt(self) -> None:
        now, chat = self.monotonic(), self.mode_screen()
        if now - self._interrupted < AGAIN_SECONDS:
            self.exit()
            return
        self._interrupted = now
        live = isinstance(chat, ChatScreen) and chat.live
        if isinstance(chat, ChatScreen):
            chat.action_stop()
        self.notify("ctrl+c again quits; the daemon goes on.", title="Stopping" if live else "", timeout=AGAIN_SECONDS)

    def action_next_theme(self) -> None:
        at = CYCLE.index(self.theme) if self.theme in CYCLE else -1
        self.theme = CYCLE[(at + 1) % len(CYCLE)]
        self.memory.theme = self.theme
        self.memory.write()

    def action_jump(self) -> None:
        from skilldeck_tui.screens.dialogs.jump import Jump, targets

        if isinstance(self.screen, ModeScreen):
            screen = self.screen
            self.push_screen(Jump(targets(screen)), lambda widget: widget.focus() if widget is not None else None)

    def action_save_picture(self) -> None:
        path = Path.cwd() / time.strftime("skilldeck-%Y%m%d-%H%M%S.svg")
        try:
            path.write_text(self.export_screenshot(title="skilldeck"), "utf-8")
        except OSError as error:
            self.notify(f"The picture cannot be written: {error.strerror}.", severity="error")
        else:
            self.notify(f"Saved as {path}")
