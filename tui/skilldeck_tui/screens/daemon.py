"""Daemon: models, containers with their files, what is allowed always, rates, and the log.

On a wide screen all of it lies in two columns, on a smaller one it is in sections, one at a time (`sections.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from textual import on, work
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import DataTable, ProgressBar, Static

from skilldeck_shared.errors import SkilldeckError
from skilldeck_shared.terminal import clean
from skilldeck_tui import actions, demonstration
from skilldeck_tui.chat.transcripts.export import save_bytes
from skilldeck_tui.client.client import read_all
from skilldeck_tui.screens.daemon_log import DaemonLog
from skilldeck_tui.screens.daemon_rules import DaemonRules
from skilldeck_tui.screens.dialogs.confirm import Confirm
from skilldeck_tui.screens.dialogs.prompt import Prompt
from skilldeck_tui.state import ON_CARD, Object, container_title, model_note
from skilldeck_tui.text.format import age, count, one_line, size
from skilldeck_tui.widgets.data_rows import DataRows
from skilldeck_tui.widgets.find_bar import FindBar
from skilldeck_tui.widgets.frame.sections import Sections
from skilldeck_tui.widgets.gauge import Gauge
from skilldeck_tui.widgets.log_pane import LogPane
from skilldeck_tui.widgets.rule_rows import RuleRows


class Models(DataRows):
    BINDINGS = actions.bindings("models")
    BINDING_GROUP_TITLE = "Models"


class Containers(DataRows):
    BINDINGS = actions.bindings("containers")
    BINDING_GROUP_TITLE = "Containers"


class DaemonScreen(DaemonLog, DaemonRules):
    MODE = "daemon"
    SCOPES = ("daemon", "models", "containers", "rules", "logs")
    AUTO_FOCUS = None
    BINDINGS = actions.bindings("daemon")
    BINDING_GROUP_TITLE = "Daemon"
    DEFAULT_CSS = """
    DaemonScreen .columns { layout: horizontal; height: 1fr; }
    DaemonScreen #things { width: 2fr; padding: 1 1 0 1; }
    DaemonScreen #running { width: 3fr; background: $surface; padding: 1 0 0 0; }
    DaemonScreen .pane { height: auto; }
    DaemonScreen #containers { height: 1fr; }
    DaemonScreen .heading { height: 1; color: $accent; }
    DaemonScreen .note { height: auto; color: $faint; padding: 0 0 1 0; }
    DaemonScreen #which { height: auto; color: $muted; padding: 0 0 1 0; }
    DaemonScreen Models, DaemonScreen RuleRows { height: auto; max-height: 8; margin: 0 0 1 0; }
    DaemonScreen Containers { height: auto; max-height: 10; margin: 0 0 1 0; }
    DaemonScreen #cfiles { height: 1fr; }
    DaemonScreen .gauges { height: 4; }
    DaemonScreen #running .heading { padding: 0 1; }
    DaemonScreen ProgressBar { display: none; height: 1; }
    DaemonScreen.-loading ProgressBar { display: block; }
    DaemonScreen.-narrow #vram, DaemonScreen.-no-vram #vram { display: none; }
    DaemonScreen Sections { display: none; }
    DaemonScreen.-tabs Sections { display: block; }
    DaemonScreen.-tabs .columns { layout: vertical; }
    DaemonScreen.-tabs #things { width: 1fr; height: 1fr; padding: 0 1; }
    DaemonScreen.-tabs #running { width: 1fr; height: auto; padding: 0; }
    DaemonScreen.-tabs .pane, DaemonScreen.-tabs .pane .heading, DaemonScreen.-tabs #running { display: none; }
    DaemonScreen.-tabs RuleRows { max-height: 100%; }
    DaemonScreen.-tabs.-models #models, DaemonScreen.-tabs.-models #running { display: block; }
    DaemonScreen.-tabs.-models #running > .heading, DaemonScreen.-tabs.-models LogPane { display: none; }
    DaemonScreen.-tabs.-containers #containers { display: block; }
    DaemonScreen #rules.-none { display: none; }
    DaemonScreen.-tabs.-rules #rules { display: block; }
    DaemonScreen.-tabs.-log #things { height: auto; }
    DaemonScreen.-tabs.-log #running { display: block; height: 1fr; }
    DaemonScreen.-tabs.-log .gauges { display: none; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._container = ""
        self._files: dict[str, Object] = {}
        self._section = "models"
        self.set_class(True, "-models", update=False)

    def body(self) -> Iterable[Widget]:
        with Horizontal(classes="columns"):
            with Vertical(id="things"):
                yield Sections()
                with Vertical(id="models", classes="pane"):
                    yield Static("", id="which", markup=False)
                    yield Static("Models", classes="heading")
                    yield Models(("Model", "Engine", "State", "Context"))
                    yield ProgressBar(show_eta=False)
                    yield Static("", classes="note", id="model-note", markup=False)
                with Vertical(id="rules", classes="pane"):
                    yield Static("Always allowed", classes="heading")
                    yield RuleRows()
                    yield Static("", classes="note", id="rule-note", markup=False)
                with Vertical(id="containers", classes="pane"):
                    yield Static("Containers", classes="heading")
                    yield Containers(("Container", "Status", "Used", "Memory"))
                    yield Static("", classes="note", id="container-note", markup=False)
                    yield DataRows(("File", "Size", "From"), id="cfiles")
            with Vertical(id="running"):
                with Horizontal(classes="gauges"):
                    yield Gauge("tokens/s", id="rate")
                    yield Gauge("cache", id="cache")
                    yield Gauge("VRAM", id="vram")
                yield Static("", classes="heading", id="log-title", markup=False)
                yield FindBar()
                yield LogPane()

    def on_mount(self) -> None:
        self.set_class(self._small, "-tabs")
        self._focus_section()

    def on_resize(self) -> None:
        if self._small != self.has_class("-tabs"):
            self.set_class(self._small, "-tabs")
            self._focus_section()
        super().on_resize()

    @property
    def _small(self) -> bool:
        return self.app.size.width < 110 or self.app.size.height < 30

    def on_screen_resume(self) -> None:
        self._follow_log()
        self._read_rules()

    def on_screen_suspend(self) -> None:
        if self.deck.current_mode != self.MODE:
            self.workers.cancel_group(self, "log")

    # ------------------------------------------------------------ sections

    @on(Sections.Chosen)
    def _section_chosen(self, event: Sections.Chosen) -> None:
        self.show_section(event.section)

    def action_section(self, step: int) -> None:
        names = list(Sections.NAMES)
        self.show_section(names[(names.index(self._section) + step) % len(names)])

    def show_section(self, section: str) -> None:
        """Go to a section: on a small screen it takes the place of the one before."""
        self.remove_class(f"-{self._section}")
        self._section = section
        self.add_class(f"-{section}")
        self.list_sections()
        self._focus_section()

    def _focus_section(self) -> None:
        first: dict[str, type[Widget]] = {
            "models": Models, "containers": Containers, "rules": RuleRows, "log": LogPane
        }  # fmt: skip
        section = self._section if self.has_class("-tabs") or self._section != "models" else "log"
        self.call_after_refresh(lambda: self.query_one(first[section]).focus())

    def list_sections(self) -> None:
        numbers = {"models": len(self.state.models), "containers": len(self.state.containers)}
        self.query_one(Sections).show(self._section, {**numbers, "rules": self.query_one(RuleRows).row_count})

    # ------------------------------------------------------------ showing

    def changed(self, topics: set[str]) -> None:
        if "link" in topics and self.state.link == "recovered":
            self._follow_log()
        if topics & {"status", "link"}:
            text = which(self.state.status, self.client.path, self.has_class("-tabs"))
            self.query_one("#which", Static).update(text)
        if topics & {"model", "status"}:
            self._models()
        if topics & {"container", "status"}:
            containers = self.state.containers
            self._list_containers()
            self.query_one(Containers).display = bool(containers)
            self.query_one("#cfiles").display = bool(containers)
            note = self.query_one("#container-note", Static)
            note.display = not containers
            note.update("None. A run that calls the shell starts one; it is gone 20 minutes after its last use.")
            self._load_files(self.query_one(Containers).current)
        if "approval" in topics:
            self._read_rules()
        self._gauges()
        self.list_sections()
        pane = self.query_one(LogPane)
        following = "" if pane.following else " · paused, f follows"
        self.query_one("#log-title", Static).update(
            Content.assemble(("Log ", "bold"), (f"{pane.level} and above{following}", "$faint"))
        )

    def _list_containers(self) -> None:
        now = self.deck.clock()
        rows = [(c["id"], _container(c, container_title(self.state, c), now)) for c in self.state.containers]
        self.query_one(Containers).show(rows)

    def _models(self) -> None:
        engines = {str(model.get("name")): model for model in self.state.engines}
        rows = []
        for model in self.state.models:
            live = engines.get(str(model["id"]), {})
            condition = str(live.get("state") or model.get("state") or "ready")
            style = {"ready": "$success", "loading": "$accent", "failed": "$error"}.get(condition, "$muted")
            context = model.get("context")
            rows.append(
                (
                    str(model["id"]),
                    (
                        clean(str(model["id"])),
                        Content.styled(str(model.get("engine") or ""), "$muted"),
                        Content.styled(condition, style),
                        Content.styled(count(float(context)) if context else "", "$faint"),
                    ),
                )
            )
        self.query_one(Models).show(rows)
        chosen = self.state.get("model", self.query_one(Models).current)
        text = "No model is loaded; o loads one."
        if chosen is not None:
            text = str(chosen.get("description") or "")
            if chosen["id"] == demonstration.BUNDLED:
                text = demonstration.DAEMON
            facts = (model_note(chosen), chosen.get("quantization"), chosen.get("licence"))
            lines = (text, " · ".join(str(fact) for fact in facts if fact), str(chosen.get("path") or ""))
            text = "\n".join(line for line in lines if line)
        note = self.query_one("#model-note", Static)
        note.display = bool(text)
        note.update(Content(clean(text)))

    def _gauges(self) -> None:
        history = list(self.state.history)
        engines = self.state.engines
        rate = sum(float(model.get("tokens_per_s") or 0) for model in engines)
        cache = max((float(model.get("cache_used") or 0) for model in engines), default=0.0)
        used, total = (
            max((float(model.get(key) or 0) for model in engines), default=0.0)
            for key in ("device_memory_used", "device_memory_total")
        )
        self.set_class(not total, "-no-vram")
        self.query_one("#rate", Gauge).show(count(rate), [sample.tokens_per_s for sample in history])
        self.query_one("#cache", Gauge).show(f"{cache:.0%}", [sample.cache_used for sample in history])
        self.query_one("#vram", Gauge).label = "VRAM" if any(m.get("engine") in ON_CARD for m in engines) else "memory"
        self.query_one("#vram", Gauge).show(size(used), [s.memory_used for s in history], size(total))

    def second(self) -> None:
        super().second()
        self._gauges()
        self._list_containers()  # ages go on

    # ------------------------------------------------------------ containers

    @on(DataTable.RowHighlighted, "Containers")
    def _container_highlighted(self) -> None:
        self._load_files(self.query_one(Containers).current)

    @on(DataTable.RowHighlighted, "Models")
    def _model_highlighted(self) -> None:
        self._models()

    @work(exclusive=True, group="cfiles")
    async def _load_files(self, container_id: str) -> None:
        table = self.query_one("#cfiles", DataRows)
        self._container = container_id
        try:
            page = await self.client.container_files(container_id) if container_id else None
        except SkilldeckError:
            # Gone meanwhile: an expired container has no files.
            page = None
        self._files = {str(file["id"]): file for file in (page.data if page else [])}
        table.show(
            [
                (
                    id_,
                    (
                        clean(str(file.get("path") or "")),
                        Content.styled(size(int(file.get("bytes") or 0)).rjust(8), "$muted"),
                        Content.styled(
                            {"user": "you", "assistant": "the model"}.get(str(file.get("source")), ""), "$faint"
                        ),
                    ),
                )
                for id_, file in self._files.items()
            ]
        )

    @on(DataTable.RowSelected, "#cfiles")
    def _file_selected(self) -> None:
        self.action_save()

    def action_kill(self) -> None:
        container = self.state.get("container", self.query_one(Containers).current)
        if container is None:
            return
        title = one_line(container_title(self.state, container), 60)

        async def kill(yes: bool | None) -> None:
            if yes:
                await self.client.delete_container(container["id"])

        self.app.push_screen(
            Confirm(f"Stop “{title}”?", "What runs in it is killed, and its files are deleted.", yes="Stop"),
            self.deck.doing(kill),
        )

    def action_save(self) -> None:
        file = self._files.get(self.query_one("#cfiles", DataRows).current)
        if file is not None:
            self.deck.attempt(self._save(self._container, file))

    async def _save(self, container_id: str, file: Object) -> None:
        data = await read_all(self.client.read_container_file(container_id, str(file["id"])))
        try:
            path = save_bytes(Path(str(file.get("path") or file["id"])).name, data, Path.cwd())
        except OSError as error:
            self.notify(f"The file cannot be written: {error.strerror}.", severity="error")
        else:
            self.notify(f"Saved as {path}", markup=False)

    # ------------------------------------------------------------ models

    def action_load(self) -> None:
        def load(value: str | None) -> None:
            if value:
                self._load(value)

        detail = (
            "A folder, a GGUF file, or a Hugging Face name (owner/model), which is downloaded. It becomes the default."
        )
        self.app.push_screen(Prompt("Load a model", detail), load)

    @work(group="load")
    async def _load(self, model: str) -> None:
        bar, note = self.query_one(ProgressBar), self.query_one("#model-note", Static)
        self.add_class("-loading")
        try:
            async with self.client.load_model(model) as steps:
                async for step in steps:
                    bar.update(total=100, progress=step.fraction * 100)
                    note.display = True
                    note.update(Content(clean(step.stage)))
                    if step.model is not None:
                        self.notify(f"{step.model['id']} is ready, and answers from the next message on.", markup=False)
        except SkilldeckError as error:
            self.deck.show_error(error)
        finally:
            self.remove_class("-loading")
            self._models()

    def action_unload(self) -> None:
        name = self.query_one(Models).current
        if not name:
            return

        async def unload(yes: bool | None) -> None:
            if yes:
                await self.client.unload_model(name)

        self.app.push_screen(Confirm(f"Unload “{name}”?", "Its runs end.", yes="Unload"), self.deck.doing(unload))


def which(status: Object, socket: Path | None, narrow: bool) -> Content:
    """Which daemon this is: where it is reached, its process, its data. There may be several on one machine."""
    if not status:
        return Content("")
    lines = [clean(str(status.get("http_url") or "no HTTP")), f"pid {status.get('pid')}"]
    if narrow:
        return Content.styled(" · ".join(lines), "$muted")
    home = str(Path.home())
    for place in (clean(str(status.get("data_dir") or "")), clean(str(socket or ""))):
        lines += [f"~{place[len(home) :]}" if place.startswith(home + "/") else place] if place else []
    for caller in status.get("callers") or ():
        share = f"key {clean(str(caller['key']))}: {caller['runs']} runs, {count(caller['tokens'])} tokens"
        lines.append(f"{share}, {caller['refused']} refused" if caller["refused"] else share)
    return Content.assemble((lines[0], "$foreground"), *(Content.styled(f"\n{line}", "$faint") for line in lines[1:]))


def _container(container: Object, title: str, now: float) -> tuple[Content | str, ...]:
    status = str(container.get("status") or "")
    style = {"running": "$success", "expired": "$faint"}.get(status, "$muted")
    return (
        one_line(title, 40),
        Content.styled(status, style),
        Content.styled(age(container.get("last_active_at"), now), "$faint"),
        Content.styled(str(container.get("memory_limit") or ""), "$faint"),
    )
