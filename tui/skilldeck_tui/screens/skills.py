"""Skills: author, watch, compare, promote.

The list joins what the daemon has with the folders this client watches; a folder whose SKILL.md never was valid has a
row too. Watched folders are remembered from one start to the next.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from textual import on, work
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import DataTable, OptionList, ProgressBar, Static

from skilldeck_shared import paths
from skilldeck_shared.errors import SkilldeckError
from skilldeck_shared.paths import expanded
from skilldeck_shared.terminal import clean
from skilldeck_tui import actions, editor
from skilldeck_tui.client.client import read_all
from skilldeck_tui.client.upload import upload_folder
from skilldeck_tui.screens.dialogs.confirm import Confirm
from skilldeck_tui.screens.dialogs.diff import DiffScreen
from skilldeck_tui.screens.dialogs.lint import LintScreen
from skilldeck_tui.screens.dialogs.matrix import MatrixScreen
from skilldeck_tui.screens.dialogs.prompt import Prompt
from skilldeck_tui.screens.skill_work import SkillWork
from skilldeck_tui.skills.lints import grave
from skilldeck_tui.skills.skill_rows import SkillRow, about_disk, about_packages, rows
from skilldeck_tui.state import Object
from skilldeck_tui.text.format import plural
from skilldeck_tui.widgets.data_rows import DataRows
from skilldeck_tui.widgets.empty import EmptyState
from skilldeck_tui.widgets.files.file_tree import FileTree
from skilldeck_tui.widgets.files.preview import LIMIT, Preview
from skilldeck_tui.widgets.problem import Problem
from skilldeck_tui.widgets.suite_panel import SuitePanel
from skilldeck_tui.widgets.version_list import VersionList

PATH = 16
"""Columns in which the end of a folder says more than the skill's own name."""
TALL = 32
"""Lines that the list, what lint finds and the tests need together."""


class SkillsScreen(SkillWork):
    MODE = "skills"
    SCOPES = ("skills",)
    AUTO_FOCUS = "DataRows"
    BINDINGS = actions.bindings("skills")
    BINDING_GROUP_TITLE = "Skills"
    DEFAULT_CSS = """
    SkillsScreen .columns { layout: horizontal; height: 1fr; }
    SkillsScreen DataRows { min-height: 3; }
    SkillsScreen #list { width: 1fr; padding: 1 1 0 1; }
    SkillsScreen #detail { width: 1fr; background: $surface; padding: 1 1 0 1; }
    SkillsScreen #detail .packages { display: none; height: auto; max-height: 7; padding: 0 1 1 1; }
    SkillsScreen #detail .about { height: auto; max-height: 5; color: $muted; padding: 0 1 1 1; }
    SkillsScreen #detail .rule { color: $faint; padding: 0 1; height: 1; }
    SkillsScreen FileTree { margin: 0 0 0 1; }
    SkillsScreen Preview { margin: 1 0 0 0; }
    SkillsScreen.-normal #list { width: 44; }
    SkillsScreen.-narrow #detail { display: none; }
    SkillsScreen.-narrow.-detail #detail { display: block; }
    SkillsScreen.-narrow.-detail #list { display: none; }
    SkillsScreen.-short #detail .about { max-height: 3; }
    SkillsScreen.-short VersionList { max-height: 4; }
    SkillsScreen.-short FileTree { max-height: 5; }
    SkillsScreen.-short Preview { margin: 0; }
    SkillsScreen.-reading #list, SkillsScreen.-reading .about, SkillsScreen.-reading VersionList { display: none; }
    SkillsScreen.-reading FileTree { display: none; }
    SkillsScreen.-reading #detail { display: block; padding: 0 1; }
    SkillsScreen ProgressBar { display: none; padding: 0 1; height: 1; }
    SkillsScreen.-uploading ProgressBar { display: block; }
    SkillsScreen #welcome { display: none; }
    SkillsScreen.-empty #welcome { display: block; }
    SkillsScreen.-empty .columns { display: none; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[SkillRow] = []
        self._detail: tuple[object, ...] = ()
        self._tree: tuple[str, str] = ("", "")
        self._count = ""

    def body(self) -> Iterable[Widget]:
        yield ProgressBar(show_eta=False)
        steps = [("x", "upload the example skills"), ("a", "add a folder with a SKILL.md, and watch it")]
        text = "A skill is a folder with instructions and scripts.\nEvery save of a watched folder becomes a version."
        yield EmptyState("No skills yet", text, steps, id="welcome")
        with Horizontal(classes="columns"):
            with Vertical(id="list"):
                yield DataRows(("Skill", "Version", "State", "Source"), least=PATH)
                yield Problem()
                yield SuitePanel()
            with Vertical(id="detail"):
                yield Static("", classes="about", markup=False)
                yield Static("", classes="packages", markup=False)
                yield VersionList()
                yield Static("", classes="rule", markup=False)
                yield FileTree()
                yield Preview()

    # ------------------------------------------------------------ showing

    def on_mount(self) -> None:
        super().on_mount()
        self.deck.look_on_disk()

    def on_screen_resume(self) -> None:
        super().on_screen_resume()
        self.deck.look_on_disk()

    def second(self) -> None:
        super().second()
        self.query_one(VersionList).grow_older(self.deck.clock())

    def changed(self, topics: set[str]) -> None:
        if topics & {"evaluation", "trial"}:
            if isinstance(self.app.screen, MatrixScreen):
                self.app.screen.follow()
            if "evaluation" in topics:
                self._load_rates()
        if not topics & {"skill", "watch", "tests", "lint", "status"}:
            return
        if isinstance(self.app.screen, LintScreen):
            self.app.screen.show()
        faults = {folder: len(grave(found)) for folder, found in self.deck.lints.found.items()}
        self.rows = rows(self.state, self.deck.tests.suites, faults)
        self.set_class(not self.rows, "-empty")
        table = self.query_one(DataRows)
        table.show([(row.key, row.cells()) for row in self.rows])
        if self.rows and self.focused is None:
            table.focus()
        self._show_row()

    @property
    def row(self) -> SkillRow | None:
        key = self.query_one(DataRows).current
        return next((row for row in self.rows if row.key == key), None)

    def _show_row(self) -> None:
        row = self.row
        problem = self.query_one(Problem)
        folder = row.folder if row else None
        found = self.deck.lints.found.get(folder) if folder else None
        if folder is not None and found is None:
            self.deck.look_for_faults(folder)
        served = str(((row and row.skill) or {}).get("latest_version") or "")
        problem.show(row.watch if row else None, served, folder, found or ())
        suite = row.suite if row and not problem.has_class("-error") else None
        self.query_one(SuitePanel).show(suite, str(folder) in self.deck.memory.tested)
        if suite is not None and self.size.height < TALL and not problem.has_class("-error"):
            problem.remove_class("-open")  # the row says that there is something
        skill = row.skill if row else None
        about, packages = about_packages(skill or {}), self.query_one(".packages", Static)
        packages.display = bool(about.plain)
        packages.update(about)
        key: tuple[object, ...] = (row and row.key, row and str(row.disk))
        if skill:
            key = (skill["id"], skill.get("latest_version"), skill.get("default_version"))
        if key != self._detail:
            self._detail = key
            self._load(row)

    @work(exclusive=True, group="detail")
    async def _load(self, row: SkillRow | None) -> None:
        about, versions, tree = self.query_one(".about", Static), self.query_one(VersionList), self.query_one(FileTree)
        skill = row.skill if row else None
        if skill is None:
            # What the row before asked for must not be shown below this one's name.
            for group in ("tree", "preview"):
                self.workers.cancel_group(self, group)
            about.update(about_disk(row.disk) if row and row.disk else "")
            self._count = ""
            self._say_where()
            versions.show("", [], "", 0)
            tree.show([])
            self._tree = ("", "")
            self.query_one(Preview).say("No version yet." if row and not row.disk else "")
            return
        description = " ".join(clean(str(skill.get("description") or "")).split())
        about.update(Content.assemble((clean(str(skill.get("name"))), "bold $foreground"), f"  {description}"))
        try:
            page = await self.client.skill_versions(skill["id"])
        except SkilldeckError as error:
            self.deck.show_error(error)
            return
        kept = int(self.state.status.get("watched_versions") or 0)
        versions.show(str(skill["id"]), page.data, str(skill.get("default_version")), self.deck.clock(), kept)
        self._load_rates()

    @work(exclusive=True, group="rates")
    async def _load_rates(self) -> None:
        """The pass rates of the versions that are listed."""
        from skilldeck_tui.skill_tests.background import rates

        skill = self.row.skill if self.row else None
        if skill is None:
            return
        try:
            found = await rates(self.client, str(skill["name"]))
        except SkilldeckError:  # the list says all else
            return
        self.query_one(VersionList).show_rates(str(skill["id"]), found, self.deck.clock())

    @on(DataTable.RowHighlighted)
    def _row_highlighted(self) -> None:
        self._show_row()

    @on(DataTable.RowSelected)
    def _row_selected(self) -> None:
        self.add_class("-detail")
        self.query_one(VersionList).focus()

    @on(OptionList.OptionHighlighted)
    def _version_highlighted(self) -> None:
        row, version = self.row, self.query_one(VersionList).current
        if row is None or row.skill is None or version is None:
            return
        tree = (row.skill["id"], str(version["version"]))
        if tree != self._tree:
            same, self._tree = tree[0] == self._tree[0], tree
            self._load_tree(*tree, keep=same)

    @work(exclusive=True, group="tree")
    async def _load_tree(self, skill_id: str, version: str, *, keep: bool) -> None:
        try:
            files = await self.client.skill_tree(skill_id, version)
        except SkilldeckError as error:
            self.query_one(Preview).say(error.title)
            return
        self._count = f"{plural(len(files), 'file')} in v{version}"
        self._say_where()
        self.query_one(FileTree).show(files, keep)

    @on(FileTree.Chosen)
    def _file_chosen(self, event: FileTree.Chosen) -> None:
        if self._tree[0]:
            self._preview(*self._tree, event.path, event.bytes)

    @work(exclusive=True, group="preview")
    async def _preview(self, skill_id: str, version: str, path: str, total: int) -> None:
        preview = self.query_one(Preview)
        try:
            data = await read_all(self.client.read_skill_file(skill_id, path, version), LIMIT)
        except SkilldeckError as error:
            preview.say(error.title)
        else:
            preview.show(path, data, total)
            self._say_where()

    # ------------------------------------------------------------ room

    def on_resize(self) -> None:
        self.set_class(self.size.height < TALL, "-short")
        self._fold()
        super().on_resize()

    def on_descendant_focus(self) -> None:
        self._fold()

    def _fold(self) -> None:
        """Where not all has room, a file that is read has all of it."""
        if not self.is_mounted:
            return
        small = self.size.height < TALL or not self.has_class("-wide")
        reading = small and self.focused is self.query_one(Preview)
        if reading != self.has_class("-reading"):
            self.set_class(reading, "-reading")
            self._say_where()

    def _say_where(self) -> None:
        """The line between the panes: what the version holds, or what is read."""
        read = " · ".join(
            filter(None, (self.query_one(Preview).shown, self._tree[1] and f"v{self._tree[1]}", "esc back"))
        )
        self.query_one(".rule", Static).update(clean(read) if self.has_class("-reading") else self._count)

    @on(FileTree.Opened)
    def _file_opened(self) -> None:
        self.query_one(Preview).focus()

    # ------------------------------------------------------------ uploading and watching

    def action_add_folder(self) -> None:
        def add(value: str | None) -> None:
            if value:
                self.watch_folder(expanded(value))

        detail = "The folder of a skill, or one that holds several. It is uploaded now and at every save."
        self.app.push_screen(Prompt("Add a skill folder", detail, paths="folder"), add)

    def action_toggle_watch(self) -> None:
        row = self.row
        if row is None:
            return
        if row.watch is not None:
            self.deck.attempt(self.unwatch(row.watch.folder))
            return
        source = Path(str((row.skill or {}).get("source") or ""))
        if source.is_absolute() and source.is_dir():
            self.watch_folder(source)
        else:
            self.action_add_folder()

    async def unwatch(self, folder: Path) -> None:
        await self.deck.watcher.remove(folder)
        self.deck.remember_watch(folder, False)
        self.state.watches.pop(folder, None)
        self.deck.touch({"watch"})

    @work(exclusive=True, group="examples")
    async def action_upload_examples(self) -> None:
        folders = sorted(path.parent for path in paths.examples_dir().glob("*/SKILL.md"))
        if not folders:
            self.notify("The examples are not installed.", severity="warning")
            return
        bar = self.query_one(ProgressBar)
        self.add_class("-uploading")
        try:
            for number, folder in enumerate(folders):
                bar.update(total=len(folders), progress=number)
                await upload_folder(self.client, folder)
        except SkilldeckError as error:
            self.deck.show_error(error)
        else:
            self.notify(f"Uploaded {plural(len(folders), 'example skill')}.", timeout=3)
        finally:
            self.remove_class("-uploading")

    # ------------------------------------------------------------ versions

    def action_diff(self) -> None:
        row, versions = self.row, self.query_one(VersionList)
        if row is None or row.skill is None or len(versions.versions) < 2:
            self.notify("There is one version only; save a change in a watched folder to make another.", timeout=4)
            return
        newer = min(versions.highlighted or 0, len(versions.versions) - 2)
        self.app.push_screen(DiffScreen(row.skill, versions.versions, newer + 1, newer))

    def action_promote(self) -> None:
        row, version = self.row, self.query_one(VersionList).current
        if row is None or row.skill is None or version is None:
            return
        self.deck.attempt(self._promote(row.skill, str(version["version"])))

    async def _promote(self, skill: Object, version: str) -> None:
        await self.client.set_default_version(skill["id"], version)
        self.notify(f"v{version} is the default now.", timeout=3)

    def action_trust(self) -> None:
        disk = self.row.disk if self.row else None
        project = str((disk or {}).get("project") or "")
        if disk is None or not project:
            self.notify("Only skills that lie on disk in a project need to be trusted.", timeout=4)
            return
        if disk.get("trusted"):
            self.deck.attempt(self._trust(project, False))
            return

        async def trust(yes: bool | None) -> None:
            if yes:
                await self._trust(project, True)

        question = f"Trust the skills of “{clean(project)}”?"
        detail = "The model is given them and may run their scripts, in its sandbox, when a prompt names them."
        self.app.push_screen(Confirm(question, detail, yes="Trust", no="Not now"), self.deck.doing(trust))

    async def _trust(self, project: str, trusted: bool) -> None:
        await (self.client.trust(project) if trusted else self.client.untrust(project))
        self.notify(f"{project} is {'trusted' if trusted else 'no longer trusted'}.", timeout=3, markup=False)
        self.deck.look_on_disk()

    def action_use(self) -> None:
        if (row := self.row) is not None and row.skill is not None:
            self.deck.use_skill(row.skill["id"])
        elif row is not None and row.disk is not None:
            self.notify(f"Name it in your prompt: /{row.name}", timeout=4, markup=False)

    def action_delete(self) -> None:
        row, versions = self.row, self.query_one(VersionList)
        if row is None:
            return
        skill, version = row.skill, versions.current if versions.has_focus else None
        if skill is None:
            if row.watch is not None:
                self.deck.attempt(self.unwatch(row.watch.folder))
            return

        async def delete(yes: bool | None) -> None:
            if yes and version is not None:
                await self.client.delete_skill_version(skill["id"], str(version["version"]))
            elif yes:
                if row.watch is not None:
                    await self.unwatch(row.watch.folder)
                await self.client.delete_skill(skill["id"])

        name = clean(str(skill.get("name")))
        question = (
            f"Delete v{version['version']} of “{name}”?" if version else f"Delete “{name}” with all its versions?"
        )
        self.app.push_screen(Confirm(question, "The folder on your disk stays as it is."), self.deck.doing(delete))

    def action_edit(self) -> None:
        row = self.row
        folder = row.folder if row else None
        if row is None or folder is None:
            self.notify("This skill has no folder here; w watches one.", severity="warning")
            return
        watch = row.watch
        place = (watch.line, watch.column) if watch is not None and watch.state == "error" else (None, None)
        if editor.opened(self.app, folder / "SKILL.md", *place):
            self.deck.watcher.saved(folder)

    def action_back(self) -> None:
        if self.has_class("-reading"):
            self.remove_class("-reading")
            self._say_where()
            self.query_one(FileTree).focus()
            return
        self.remove_class("-detail")
        self.query_one(DataRows).focus()
