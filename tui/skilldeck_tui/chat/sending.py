"""Sending: attached files, the message, and messages that wait for the end of a run.

While a run is live, a message steers it (it ends before the model's next turn, and the message begins the next run of
the session, which knows all that was done) or waits for its end. What waits belongs to its session and is sent also
when another one is shown. After a failure, or when the person stopped the run, nothing is sent by itself: what waits
comes back to the composer.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

from textual import work

from skilldeck_shared.errors import SkilldeckError
from skilldeck_tui.chat.composing.draft import Attachment, Object, Outgoing
from skilldeck_tui.chat.composing.mentions import Mention, describe_lost, excerpt, mentions
from skilldeck_tui.chat.runs import ChatRuns
from skilldeck_tui.chat.sessions import Branch, branch_title
from skilldeck_tui.chat.transcripts.transcript import ShownRun, input_text
from skilldeck_tui.client.types import ConnectionLost, DaemonUnreachable, Page
from skilldeck_tui.state import BUSY
from skilldeck_tui.text.format import one_line

LOST_TRIES, LOST_PAUSE = 60, 0.5
"""How often, and how many seconds apart, a daemon is asked that went away while a run was started."""
FEW = 10
"""Of the newest runs or sessions, among which the one is looked for that was made then."""


class ChatSending(ChatRuns):
    def init_runs(self) -> None:
        super().init_runs()
        self._uploads: set[asyncio.Task[None]] = set()
        self.waiting: dict[str, list[Outgoing]] = {}
        self._latest: dict[str, str] = {}  # the last run of a session with waiting messages
        self._held: set[str] = set()  # sessions whose waiting messages go back to the composer

    def open(self, key: str) -> None:
        super().open(key)
        self.give_back()
        self.show_waiting()

    # ------------------------------------------------------------ attaching

    def attach_file(self, file: Object) -> None:
        """Attach a file that the daemon has."""
        name, size = str(file.get("filename") or file["id"]), int(file.get("bytes") or 0)
        attachments = self.composer.draft.attachments
        if all(a.file_id != file["id"] for a in attachments):
            attachments.append(Attachment(name, file_id=str(file["id"]), size=size, sent=size))
        self._chips()

    def attach_path(self, path: Path, lines: tuple[int, int] | None = None, to: list[Attachment] | None = None) -> None:
        """Upload a file, or lines of it, and attach it to the next message (or to another's attachments)."""
        attachment = Attachment(Mention("", path, lines).name, path, lines)
        (self.composer.draft.attachments if to is None else to).append(attachment)
        task = asyncio.create_task(self._upload(attachment, path))
        self._uploads.add(task)
        task.add_done_callback(self._uploads.discard)
        self._chips()

    async def _upload(self, attachment: Attachment, path: Path) -> None:
        def progress(done: int, total: int) -> None:
            before = attachment.sent
            attachment.sent, attachment.size = done, total
            if total and done * 20 // total != before * 20 // total:
                self._chips()

        part: Path | None = None
        try:
            if attachment.lines is not None:
                part = await asyncio.to_thread(excerpt, Mention("", path, attachment.lines))
            file = await self.client.upload_file(part or path, progress=progress)
        except SkilldeckError as error:
            attachment.error = error.title
            self.deck.show_error(error)
        except (OSError, ValueError) as error:
            attachment.error = str(error)
            self.notify(attachment.error, severity="error", markup=False)
        else:
            attachment.file_id = str(file["id"])
            attachment.size = int(file.get("bytes") or attachment.size)
        finally:
            if part is not None:
                await asyncio.to_thread(shutil.rmtree, part.parent, True)
        self._chips()

    def _chips(self) -> None:
        if self.is_running:
            self.show_chips()

    # ------------------------------------------------------------ sending

    def send(self, message: Outgoing) -> None:
        """Send a message; while a run is live it waits: for the run's next turn when it steers, else for its end."""
        if not (self.busy or self.waiting.get(self.current)):
            self._sending = True
            self.composer.live(True)
            self._send(self.current, message, self.branch)
            return
        waiting = self.waiting.setdefault(self.current, [])
        # What steers goes before what waits for the end.
        waiting.insert(sum(other.steers for other in waiting) if message.steers else len(waiting), message)
        if self.live:
            self._latest[self.current] = self.live[-1].run_id
        self._steer(self.current)
        self.show_waiting()

    @property
    def busy(self) -> bool:
        """Whether a message would have to wait."""
        return self._sending or bool(self.live)

    def _steer(self, key: str) -> None:
        """Have the live run of a session end before its next turn, if what waits asks for that."""
        messages, run_id = self.waiting.get(key), self._latest.get(key, "")
        if messages and messages[0].steers and run_id and run_id not in self.steered:
            self.steered.add(run_id)
            self.deck.attempt(self.client.cancel_run(run_id, after_turn=True))

    @work(group="send")
    async def _send(self, key: str, message: Outgoing, branch: Branch | None = None) -> None:
        turn, draft = ShownRun("", branch=branch.title if branch is not None else ""), message.draft
        try:
            text = await self._mentioned(key, message)
            if self._uploads:
                await asyncio.wait(set(self._uploads))
            broken = next((a for a in draft.attachments if a.error), None)
            if broken is not None:
                self.notify(f"{broken.name} was not uploaded; remove it or try again.", severity="error")
                await self._unsend(key, turn, message)
                return
            try:
                body = self._body(key, message, text)
            except SkilldeckError as error:  # a variable that is not set
                self.deck.show_error(error)
                await self._unsend(key, turn, message)
                return
            names = [attachment.name for attachment in draft.attachments]
            turn.ask(body["input"])
            turn.asked[0].files = names
            turn.started = self.deck.clock()
            if self.current == key:
                self.turns.append(turn)
                self.remove_class("-empty")
                await self.transcript.add(turn)
                self.transcript.sync(self.deck.clock(), tick=True)
            try:
                if not key:
                    title = one_line(message.text, 80) or names[0]
                    key = f"session:{await self._new_session(title, branch)}"
                    self._moved("", key)
                where, _, id_ = key.partition(":")
                body["conversation" if where == "session" else "previous_response_id"] = id_
                response = await self._started(body, message.permission)
            except SkilldeckError as error:
                self.deck.show_error(error)
                await self._unsend(key, turn, message)
                return
            turn.run_id = str(response["id"])
            turn.response = response
            turn.status = str(response.get("status") or "in_progress")
            if key.startswith("run:"):
                self._moved(key, f"run:{turn.run_id}")
                key = f"run:{turn.run_id}"
            self._latest[key] = turn.run_id
            self.began(key)
            if self.current == key and turn in self.turns:
                self._read(turn)
            self._steer(key)
        finally:
            self._sending = False
            self.deck.touch({"session", "run"})

    def _body(self, key: str, message: Outgoing, text: str) -> Object:
        """What is sent. Raises BadRequest for a variable that is not set."""
        return message.draft.request(text, self.state)

    async def _new_session(self, title: str, branch: Branch | None) -> str:
        """Make a session, with what a branch begins with; where the connection broke meanwhile, the one that was made
        all the same."""
        known = set(self.state.objects["session"])
        title = title if branch is None else branch_title(branch.title or title, self.state)
        try:
            if branch is None:
                made = await self.client.create_session({"title": title})
            else:
                made = await self.client.fork_session(branch.session, branch.after, {"title": title})
        except ConnectionLost:
            for session in await self._once_back(lambda: self.client.sessions(limit=FEW)):
                if session["id"] not in known and (session.get("metadata") or {}).get("title") == title:
                    return str(session["id"])
            raise
        return str(made["id"])

    async def _started(self, body: Object, permission: str) -> Object:
        """Start a run. Where the connection broke meanwhile, the one that was started all the same: a message that came
        back to the composer would be sent twice."""
        known = self.run_ids | {str(run["id"]) for run in self.state.runs}
        try:
            return await self.client.start_run(body, permission, project=str(Path.cwd()), origin="chat")
        except ConnectionLost:
            session = str(body.get("conversation") or "")
            said, before = [input_text(item)[0] for item in body["input"]], body.get("previous_response_id")
            for run in await self._once_back(lambda: self.client.runs(session=session, limit=FEW)):
                if run["id"] not in known:
                    detail = await self.client.run(str(run["id"]))
                    same = [input_text(item)[0] for item in detail.input] == said
                    if same and detail.response.get("previous_response_id") == before:
                        return detail.response
            raise

    async def _once_back(self, ask: Callable[[], Awaitable[Page]]) -> list[Object]:
        """What the daemon answers once it is there again; nothing when it stays away."""
        for _ in range(LOST_TRIES):
            try:
                return (await ask()).data
            except DaemonUnreachable:
                await asyncio.sleep(LOST_PAUSE)
        return []

    async def _mentioned(self, key: str, message: Outgoing) -> str:
        """Attach the files that the text names, and return it with the names they have for the model."""
        if "@" not in message.text:
            return message.text
        found, lost = await asyncio.to_thread(mentions, message.text, Path.cwd())
        text, attachments = message.text, message.draft.attachments
        for mention in found:
            if all((a.path, a.lines) != (mention.path, mention.lines) for a in attachments):
                self.attach_path(mention.path, mention.lines, attachments)
            text = text.replace(f"@{mention.word}", mention.name)
        if lost:
            self.notify(f"{describe_lost(lost)}.", severity="warning", markup=False)
        return text

    def _moved(self, before: str, key: str) -> None:
        """A session that was new has its id, or a chain of runs its next one."""
        if self.current == before:
            self.current, self.branch = key, None
        if before in self.waiting:
            self.waiting[key] = self.waiting.pop(before)

    async def _unsend(self, key: str, turn: ShownRun, message: Outgoing) -> None:
        """Give a message that was not sent back to the composer, at once or when its session is opened again."""
        if turn in self.turns:
            self.turns.remove(turn)
            await self.transcript.show(self.turns, more=self._more)
        self.waiting.setdefault(key, []).insert(0, message)
        self._held.add(key)
        self.give_back()

    # ------------------------------------------------------------ waiting

    def go_on(self) -> None:
        """Send the next message of a session whose run is over."""
        if not self.state.connected:
            return
        for key in [key for key, messages in self.waiting.items() if messages and key not in self._held]:
            condition = self._condition(key)
            if condition == "broken":
                self._held.add(key)
                self.give_back()
            elif condition == "free" and not self._sending:
                self._sending = True
                self._send(key, self.waiting[key].pop(0))
                self.show_waiting()

    def _condition(self, key: str) -> Literal["busy", "free", "broken"]:
        if key == self.current:
            if self.loading_session or self.live or not self.turns:
                return "busy"
            run_id, status = self.turns[-1].run_id, self.turns[-1].status
        else:
            run_id = self._latest.get(key, "")
            status = str((self.state.get("run", run_id) or {}).get("status") or "queued")
        if status in BUSY:
            return "busy"
        broken = run_id and status in ("failed", "cancelled") and run_id not in self.steered
        return "broken" if broken else "free"  # a command of one's own that failed has no id

    def take_back(self, index: int = -1) -> bool:
        """Put a waiting message (the last one) back into the composer, to be changed; False when none waits."""
        messages = self.waiting.get(self.current)
        if not messages:
            return False
        self.restore([messages.pop(index)])
        return True

    def give_back(self) -> None:
        """What waits in the session that is shown, and is not to be sent by itself, comes back to the composer."""
        if self.current in self._held:
            self._held.discard(self.current)
            self.restore(self.waiting.pop(self.current, []))

    def restore(self, messages: list[Outgoing]) -> None:
        """Put messages before what the composer holds."""
        composer = self.composer
        texts = [*(message.text for message in messages), composer.text.text]
        composer.text.load_text("\n\n".join(text for text in texts if text))
        composer.text.move_cursor(composer.text.document.end)
        known = composer.draft.attachments
        known[:0] = [a for message in messages for a in message.draft.attachments if a not in known]
        self._chips()
        self.show_waiting()

    def show_waiting(self) -> None:
        """Bring the lines above the composer up to date."""
        if self.is_running:
            self.composer.waiting(self.waiting.get(self.current, []))
