"""What screens ask of the app they belong to: the daemon's state, its client, and helpers they share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from textual.screen import Screen

from skilldeck_shared.errors import SkilldeckError
from skilldeck_tui.chat.composing.history import History
from skilldeck_tui.preferences import Memory, Preferences
from skilldeck_tui.state import DaemonState

if TYPE_CHECKING:
    from skilldeck_shared.lint.skill import Neighbour
    from skilldeck_tui.client.client import Client
    from skilldeck_tui.skill_tests.background import SkillTests
    from skilldeck_tui.skills.lints import SkillLints
    from skilldeck_tui.watching.watcher import FolderWatcher

T = TypeVar("T")


class Deck(Protocol):
    """See `app.SkilldeckApp`, which is the one that screens meet."""

    preferences: Preferences
    memory: Memory
    state: DaemonState
    tests: SkillTests
    lints: SkillLints
    history: History
    clock: Callable[[], float]
    monotonic: Callable[[], float]

    @property
    def client(self) -> Client: ...

    @property
    def watcher(self) -> FolderWatcher: ...

    @property
    def current_mode(self) -> str: ...

    @property
    def screen(self) -> Screen[Any]: ...

    def action_mode(self, mode: str) -> None: ...

    def mode_screen(self, mode: str = "") -> Screen[Any] | None:
        """The screen of a mode (default: the present one), below any dialog; None before it was ever shown."""

    def touch(self, topics: Iterable[str]) -> None:
        """Something changed: the visible mode shows it."""

    def neighbours(self) -> list[Neighbour]:
        """The skills that a model chooses among."""

    def look_for_faults(self, folder: Path) -> None:
        """Lint a skill's folder, in the background."""

    def look_on_disk(self) -> Any:
        """Look for skills on disk, in the background."""

    def show_error(self, error: SkilldeckError) -> None:
        """Show an error with its hint."""

    def doing(self, call: Callable[[T | None], Awaitable[None]]) -> Callable[[T | None], None]:
        """A dialog's callback that runs `call` in the background and shows its errors."""

    def attempt(self, call: Awaitable[object], *, group: str = "default", exclusive: bool = False) -> None:
        """Run a call to the daemon in the background; its error is shown."""

    def copy(self, text: str, what: str) -> None:
        """Copy through the terminal."""

    def attach(self, file: dict[str, Any]) -> None:
        """Attach a file of the daemon to the next message, and go there."""

    def use_skill(self, skill_id: str) -> None:
        """Choose a skill for the next message, and go there."""

    def load_model(self) -> None:
        """Ask for a model to load, and go where its loading is shown."""

    def open_run(self, run_id: str) -> None:
        """Show a run in Chat."""

    def keep_draft(self, text: str) -> None:
        """What is being written, for the next time."""

    def remember_watch(self, folder: Path, watched: bool) -> None:
        """Watch the folder also the next time."""

    def remember_tests(self, folder: Path, on_save: bool) -> None:
        """Run the folder's tests after every save, from now on and the next time."""
