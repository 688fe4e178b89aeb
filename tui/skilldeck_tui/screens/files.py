"""Files: what the daemon holds for runs; upload, look into, attach, delete."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from textual import on, work
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import DataTable, ProgressBar, Static

from skilldeck_shared.errors import SkilldeckError
from skilldeck_shared.paths import expanded
from skilldeck_shared.terminal import clean
from skilldeck_tui import actions
from skilldeck_tui.client.client import read_all
from skilldeck_tui.screens.base import ModeScreen
from skilldeck_tui.screens.dialogs.confirm import Confirm
from skilldeck_tui.screens.dialogs.prompt import Prompt
from skilldeck_tui.state import Object
from skilldeck_tui.text.format import age, size
from skilldeck_tui.widgets.data_rows import DataRows
from skilldeck_tui.widgets.empty import EmptyState
from skilldeck_tui.widgets.files.preview import LIMIT, Preview


class FilesScreen(ModeScreen):
    MODE = "files"
    SCOPES = ("files",)
    AUTO_FOCUS = "DataRows"
    BINDINGS = actions.bindings("files")
    BINDING_GROUP_TITLE = "Files"
    DEFAULT_CSS = """
    FilesScreen .columns { layout: horizontal; }
    FilesScreen #list { width: 1fr; padding: 1 1 0 1; }
    FilesScreen #look { width: 1fr; background: $surface; padding: 1 1 0 1; }
    FilesScreen.-narrow .columns { layout: vertical; }
    FilesScreen #look .about { color: $muted; height: auto; padding: 0 1 1 1; }
    FilesScreen ProgressBar { display: none; padding: 0 1; height: 1; }
    FilesScreen.-uploading ProgressBar { display: block; }
    FilesScreen #welcome { display: none; }
    FilesScreen.-empty #welcome { display: block; }
    FilesScreen.-empty .columns { display: none; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._previewed = ""

    def body(self) -> Iterable[Widget]:
        yield ProgressBar(show_eta=False)
        steps = [("u", "upload a file"), ("f2", "back to the chat: @ and ctrl+o attach from there")]
        yield EmptyState(
            "No files yet", "Files go to the model with a message, into its container.", steps, id="welcome"
        )
        with Horizontal(classes="columns"):
            with Vertical(id="list"):
                yield DataRows(("Name", "Size", "Age", "Purpose"))
            with Vertical(id="look"):
                yield Static("", classes="about", markup=False)
                yield Preview()

    def changed(self, topics: set[str]) -> None:
        if not topics & {"file", "status"}:
            return
        files = self.state.files
        self.set_class(not files, "-empty")
        self._list()
        if files and self.focused is None:
            self.query_one(DataRows).focus()
        self._look()

    def second(self) -> None:
        super().second()
        self._list()  # ages go on

    def _list(self) -> None:
        now = self.deck.clock()
        self.query_one(DataRows).show(
            [
                (
                    file["id"],
                    (
                        clean(str(file.get("filename") or "")),
                        Content.styled(size(int(file.get("bytes") or 0)).rjust(8), "$muted"),
                        Content.styled(age(file.get("created_at"), now), "$faint"),
                        Content.styled(str(file.get("purpose") or ""), "$faint"),
                    ),
                )
                for file in self.state.files
            ]
        )

    @property
    def file(self) -> Object | None:
        return self.state.get("file", self.query_one(DataRows).current)

    @on(DataTable.RowHighlighted)
    def _highlighted(self) -> None:
        self._look()

    @on(DataTable.RowSelected)
    def _selected(self) -> None:
        self.query_one(Preview).focus()

    def _look(self) -> None:
        file = self.file
        preview, about = self.query_one(Preview), self.query_one(".about", Static)
        if file is None:
            about.update("")
            preview.say("")
            return
        about.update(Content.assemble((clean(str(file.get("filename"))), "bold $foreground"), f"\n{file['id']}"))
        if self._previewed != file["id"]:
            self._previewed = file["id"]
            self._read(file)

    @work(exclusive=True, group="preview")
    async def _read(self, file: Object) -> None:
        preview = self.query_one(Preview)
        try:
            data = await read_all(self.client.read_file(file["id"]), LIMIT)
        except SkilldeckError as error:
            preview.say(error.title)
        else:
            preview.show(str(file.get("filename") or ""), data, int(file.get("bytes") or len(data)))

    # ------------------------------------------------------------ actions

    def action_upload(self) -> None:
        def upload(value: str | None) -> None:
            if value:
                self._upload(expanded(value))

        self.app.push_screen(Prompt("Upload a file", paths="file"), upload)

    @work(group="upload")
    async def _upload(self, path: Path) -> None:
        bar = self.query_one(ProgressBar)
        self.add_class("-uploading")
        try:
            file = await self.client.upload_file(
                path, progress=lambda done, all_: bar.update(total=all_, progress=done)
            )
        except SkilldeckError as error:
            self.deck.show_error(error)
        else:
            self.notify(f"Uploaded {path.name}.", markup=False, timeout=3)
            self.call_after_refresh(self.query_one(DataRows).select, file["id"])
        finally:
            self.remove_class("-uploading")

    def action_attach(self) -> None:
        if (file := self.file) is not None:
            self.deck.attach(file)

    def action_copy_id(self) -> None:
        if (file := self.file) is not None:
            self.deck.copy(file["id"], "the file's id")

    def action_delete(self) -> None:
        file = self.file
        if file is None:
            return

        async def delete(yes: bool | None) -> None:
            if yes:
                await self.client.delete_file(file["id"])

        question = f"Delete “{clean(str(file.get('filename')))}”?"
        self.app.push_screen(Confirm(question, "Runs that used it keep their transcripts."), self.deck.doing(delete))
