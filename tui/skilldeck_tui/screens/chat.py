"""Chat: the sessions, the transcript of one, the composer.

One reader per visible live run applies events to its `ShownRun` as they come; one timer at 30 Hz paints what changed
and stands still when nothing is live. Leaving a session ends its readers; the run goes on in the daemon, and coming
back reads it from the beginning. A message that cannot be sent comes back to the composer.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress

from textual import events, on
from textual.containers import Horizontal, Vertical
from textual.css.query import NoMatches
from textual.timer import Timer
from textual.widget import Widget

from skilldeck_shared.errors import BadRequest, SkilldeckError
from skilldeck_shared.paths import expanded
from skilldeck_shared.terminal import clean
from skilldeck_tui import actions
from skilldeck_tui.chat.composing.draft import Outgoing
from skilldeck_tui.chat.looking import ChatLooking
from skilldeck_tui.chat.sessions import Session, sessions
from skilldeck_tui.screens.base import ModeScreen
from skilldeck_tui.screens.dialogs.pick import Pick, Row
from skilldeck_tui.screens.dialogs.prompt import Prompt
from skilldeck_tui.skills.packages import lost, preparing
from skilldeck_tui.state import model_note, session_of
from skilldeck_tui.widgets.composing.chips import Chips
from skilldeck_tui.widgets.composing.composer import Composer
from skilldeck_tui.widgets.composing.waiting_list import WaitingList
from skilldeck_tui.widgets.empty import EmptyState
from skilldeck_tui.widgets.find_bar import FindBar
from skilldeck_tui.widgets.session_list import SessionList
from skilldeck_tui.widgets.transcript.approval import ApprovalBox
from skilldeck_tui.widgets.transcript.view import TranscriptView

FRAME, TICKS = 1 / 30, 3
PERMISSIONS = ("", "ask", "deny")
LOAD = "\0load"


class ChatScreen(ChatLooking, ModeScreen):
    MODE = "chat"
    SCOPES = ("chat", "sessions", "transcript", "composer")
    AUTO_FOCUS = "ComposerText"
    BINDINGS = actions.bindings("chat")
    BINDING_GROUP_TITLE = "Chat"
    DEFAULT_CSS = """
    ChatScreen > .body { layout: horizontal; }
    ChatScreen #sidebar { width: 26; background: $surface; padding: 1 0 0 0; }
    ChatScreen.-no-sessions #sidebar { display: none; }
    ChatScreen #main { width: 1fr; }
    ChatScreen.-wide #sidebar { width: 36; }
    ChatScreen.-hide-sidebar #sidebar { display: none; }
    ChatScreen.-narrow #sidebar { display: none; }
    ChatScreen.-narrow.-show-sidebar #sidebar { display: block; width: 1fr; }
    ChatScreen.-narrow.-show-sidebar #main { display: none; }
    ChatScreen #welcome { display: none; }
    ChatScreen.-empty #welcome { display: block; }
    ChatScreen.-empty TranscriptView { display: none; }
    ChatScreen.-narrow ApprovalBox .choices { layout: grid; grid-size: 3; grid-rows: 1; height: 2; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.set_class(True, "-empty", update=False)
        self.init_runs()
        self.rows: list[Session] = []
        self.permission = ""
        self._timer: Timer | None = None
        self._frames = 0
        self._painted = 0.0
        self._unpainted = False
        self._lost: set[str] = set()

    def body(self) -> Iterable[Widget]:
        with Horizontal(classes="body"):
            with Vertical(id="sidebar"):
                yield SessionList()
            with Vertical(id="main"):
                yield FindBar()
                yield EmptyState("", "", id="welcome")
                yield TranscriptView(self.deck.preferences.shell_lines)
                yield ApprovalBox()
                yield Composer(self.state)

    def on_mount(self) -> None:
        self.composer.history, self.composer.written = self.deck.history, self.deck.keep_draft
        if self.deck.memory.draft:
            self.composer.fill(self.deck.memory.draft)
        self._timer = self.set_interval(FRAME, self._frame, pause=True)
        if self.unsent(""):
            self._load("")
        self.query_one(Composer).text.focus()

    @property
    def transcript(self) -> TranscriptView:
        return self.query_one(TranscriptView)

    @property
    def composer(self) -> Composer:
        return self.query_one(Composer)

    # ------------------------------------------------------------ painting

    def animate_live(self, live: bool) -> None:
        """Run the frame timer while something is live."""
        with suppress(NoMatches):  # the screen is being taken down, or is not there yet
            self.composer.live(self.busy)
        if self._timer is not None:
            if live:
                self._timer.resume()
            else:
                self._timer.pause()
                self.call_after_refresh(self._paint, True)

    def arrived(self) -> None:
        """An event came: after a quiet spell it is painted at once, in a stream with the next frame."""
        self._unpainted = True
        if time.monotonic() - self._painted >= FRAME and self.deck.current_mode == self.MODE:
            self._paint(False)

    def _frame(self) -> None:
        if self.deck.current_mode != self.MODE:
            return
        self._frames += 1
        tick = self._frames % TICKS == 0
        if tick or self._unpainted:
            self._paint(tick)
        if self._frames % 300 == 0:
            self.transcript.prune()

    def _paint(self, tick: bool) -> None:
        if self.is_running:
            if self._unpainted:  # the frames of the spinner do not make an event wait
                self._painted, self._unpainted = time.monotonic(), False
            self.transcript.sync(self.deck.clock(), tick=tick)

    def changed(self, topics: set[str]) -> None:
        now = self.deck.clock()
        self.rows = sessions(self.state)
        self.query_one(SessionList).show(self.rows, self.current, now)
        self.set_class(not self.turns and not self.loading_session, "-empty")
        self.set_class(not self.rows, "-no-sessions")
        self._welcome()
        if topics & {"run", "link"}:
            self.adopt()
        for turn in self.live:
            turn.preparing = preparing(self.state, turn.run_id)
        for environment in lost(self.state, {turn.run_id for turn in self.live}):
            if environment["id"] not in self._lost:
                self._lost.add(environment["id"])
                text = clean(str(environment.get("detail")))
                self.notify(text, title="Packages were not installed", severity="error", timeout=15, markup=False)
        pending = self.pending()
        here = [a for a in pending if a.get("run_id") in self.run_ids]
        self.query_one(ApprovalBox).show(here, take_focus=not self.composer.text.text and self.deck.screen is self)
        self.transcript.waiting({str(a.get("call_id")) for a in here})
        if not here and self.focused is None:
            self.composer.text.focus()
        self.show_chips()
        self.composer.live(self.busy)
        self._paint(True)

    def second(self) -> None:
        super().second()
        self.query_one(SessionList).show(self.rows, self.current, self.deck.clock())

    def _welcome(self) -> None:
        welcome = self.query_one("#welcome", EmptyState)
        if not self.state.loaded:
            welcome.say("skilldeck", "Waiting for the daemon…", [("f1", "help"), ("ctrl+q", "quit")])
        elif not self.state.skills:
            steps = [("f3 x", "upload the example skills"), ("f3 a", "add a skill folder"), ("f1", "all keys")]
            welcome.say("No skills yet", "The model works best with a skill to follow.", steps)
        else:
            steps = [("@", "attach a file"), ("/", "choose a skill"), ("enter", "send"), ("f1", "all keys")]
            welcome.say("What shall it do?", "The model runs commands in a sandbox, with your skills.", steps)

    # ------------------------------------------------------------ sessions

    @on(SessionList.Opened)
    def _opened(self, event: SessionList.Opened) -> None:
        self.remove_class("-show-sidebar")
        self.open(event.key)
        self.composer.text.focus()

    def action_new_session(self) -> None:
        self.open("")
        self.remove_class("-show-sidebar")
        self.composer.text.focus()

    def _step(self, step: int) -> None:
        keys = [row.key for row in self.rows]
        if not keys:
            return
        at = keys.index(self.current) + step if self.current in keys else 0
        if 0 <= at < len(keys):
            self.open(keys[at])

    def action_previous(self) -> None:
        self._step(-1)

    def action_next(self) -> None:
        self._step(1)

    def action_toggle_sidebar(self) -> None:
        if self.has_class("-narrow"):
            self.toggle_class("-show-sidebar")
            (self.query_one(SessionList) if self.has_class("-show-sidebar") else self.composer.text).focus()
        else:
            self.toggle_class("-hide-sidebar")

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """On a narrow screen the list has all the room: what else is gone to comes in its place."""
        if self.has_class("-show-sidebar") and not isinstance(event.widget, SessionList):
            self.remove_class("-show-sidebar")

    def action_rename(self) -> None:
        row = self.row
        if row is None or row.is_run:
            self.notify("Only sessions have a name; send a message to start one.", severity="warning")
            return

        async def rename(title: str | None) -> None:
            if title:
                await self.retitle(row.id, title)

        self.app.push_screen(Prompt("Rename the session", value=row.title), self.deck.doing(rename))

    # ------------------------------------------------------------ writing

    @on(Composer.Sent)
    def _sent(self, event: Composer.Sent) -> None:
        message = Outgoing(event.text, event.draft, self.permission, not event.later)
        if self.state.connected:
            self.send(message)
        else:
            self.notify("The daemon is away; the message stays here.", severity="warning")
            self.restore([message])

    @on(Composer.TakeBack)
    def _take_back(self) -> None:
        if not self.take_back():
            self.composer.recall(-1)

    @on(WaitingList.Taken)
    def _taken(self, event: WaitingList.Taken) -> None:
        self.take_back(event.index)
        self.composer.text.focus()

    @on(Composer.Paged)
    def _paged(self, event: Composer.Paged) -> None:
        (self.transcript.scroll_page_up if event.step < 0 else self.transcript.scroll_page_down)(animate=False)

    @on(Composer.DraftChanged)
    def _draft_changed(self) -> None:
        self.show_chips()

    @on(Composer.AttachAsked)
    def _attach_asked(self, event: Composer.AttachAsked) -> None:
        if event.path is not None:
            self.attach_path(event.path, event.lines)
        elif (file := self.state.get("file", event.file_id)) is not None:
            self.attach_file(file)

    def action_attach(self) -> None:
        def attach(value: str | None) -> None:
            if value:
                self.attach_path(expanded(value))

        self.app.push_screen(Prompt("Attach a file", paths="file"), attach)

    @on(Chips.ModelAsked)
    def action_pick_model(self) -> None:
        default = self.state.default_model
        rows = [Row("", f"default: {default}" if default else "default", "whichever the daemon has as its default")]
        rows += [Row(m["id"], str(m["id"]), model_note(m)) for m in self.state.models]
        rows.append(Row(LOAD, "load another…", "a folder, a GGUF file, a Hugging Face name"))

        def picked(name: str | None) -> None:
            if name == LOAD:
                self.deck.load_model()
            elif name is not None:
                self.composer.choose_model(name)

        self.app.push_screen(Pick("Which model answers?", rows, value=self.composer.draft.model), picked)

    def action_ask_network(self) -> None:
        draft = self.composer.draft

        def answered(text: str | None) -> None:
            if text is not None:
                self.composer.choose_network(text)

        now = " ".join([*draft.allow, *(f"${name}" for name in draft.env)])
        detail = "Hosts, and after a $ variables of yours for requests to them: api.example.org $API_KEY"
        self.app.push_screen(Prompt("What may commands reach?", detail, value=now), answered)

    def action_next_permission(self) -> None:
        self.permission = PERMISSIONS[(PERMISSIONS.index(self.permission) + 1) % len(PERMISSIONS)]
        says = {"": "as the daemon is set", "ask": "ask before each command", "deny": "run no commands"}
        self.notify(f"From the next message on: {says[self.permission]}.")
        self._draft_changed()

    # ------------------------------------------------------------ approvals

    @on(ApprovalBox.Decided)
    async def _decided(self, event: ApprovalBox.Decided) -> None:
        id_ = event.approval["id"]
        try:
            await self.client.decide(
                id_,
                "deny" if event.decision == "deny" else "approve",
                message=event.note,
                for_session=event.decision == "session",
                always=event.decision == "always",
                prefix=event.prefix,
            )
        except BadRequest as error:  # it is still asked
            self.deck.show_error(error)
            return
        except SkilldeckError as error:
            self.deck.show_error(error)
        # The daemon says so too; this is for an answer that comes before it does.
        self.state.objects["approval"].pop(id_, None)
        self.deck.touch({"approval"})
        if not [a for a in self.pending() if a.get("run_id") in self.run_ids]:
            self.composer.text.focus()

    @on(ApprovalBox.Left)
    def _left(self) -> None:
        self.composer.text.focus()

    def show_approval(self, run_id: str) -> None:
        """Go to a run that asks."""
        for row in self.rows or sessions(self.state):
            run = self.state.get("run", run_id) or {}
            if row.id in (run_id, session_of(run)) and row.key != self.current:
                self.open(row.key)
        self.call_after_refresh(lambda: self.query_one(ApprovalBox).focus())

    # ------------------------------------------------------------ stopping

    def action_escape(self) -> None:
        bar = self.query_one(FindBar)
        if bar.has_class("-open"):
            bar.action_close()
            return
        if self.focused is self.transcript and self.transcript.finding:
            self.transcript.find("")
            return
        if self.focused is self.composer.text:
            self.transcript.focus()
        else:
            self.composer.text.focus()

    def action_stop(self) -> None:
        self.workers.cancel_group(self, "compact")
        for turn in self.live:
            self.steered.discard(turn.run_id)
            self.run_worker(self.stop_run(turn), group=f"stop-{turn.run_id}", exclusive=True)
        self.workers.cancel_group(self, "own")

    # ------------------------------------------------------------ find, copy, export

    def action_find(self) -> None:
        self.query_one(FindBar).open()

    @on(TranscriptView.FindAsked)
    def _find_asked(self) -> None:
        self.action_find()

    @on(FindBar.Changed)
    def _find_changed(self, event: FindBar.Changed) -> None:
        self.transcript.find(event.pattern)

    @on(TranscriptView.Replaced)
    def _replaced(self) -> None:
        bar = self.query_one(FindBar)
        if bar.has_class("-open"):
            self.transcript.find(bar.pattern)

    @on(FindBar.Step)
    def _find_step(self, event: FindBar.Step) -> None:
        self.transcript.action_match(event.step)

    @on(FindBar.Closed)
    def _find_closed(self) -> None:
        self.transcript.focus()

    @on(TranscriptView.Matched)
    def _matched(self, event: TranscriptView.Matched) -> None:
        self.query_one(FindBar).found(event.position, event.total)

    @on(TranscriptView.Write)
    def _write(self) -> None:
        self.composer.text.focus()

    def action_save_test(self) -> None:
        turn = self.last_asked
        if turn is None:
            self.notify("Nothing was asked yet.", timeout=3)
            return
        from skilldeck_tui.screens.dialogs.save_test import SaveTest

        self.app.push_screen(SaveTest(turn.run_id))

    def action_earlier(self) -> None:
        self.transcript.action_edge(-1)
        self.load_earlier()

    def action_latest(self) -> None:
        self.transcript.action_edge(1)
