"""What is done with a skill's folder in Skills: its tests, their matrix, lint, and new folders from templates."""

from __future__ import annotations

import asyncio
from pathlib import Path

from textual import work

from skilldeck_shared.errors import SkilldeckError
from skilldeck_tui.screens.base import ModeScreen
from skilldeck_tui.screens.dialogs.lint import LintScreen
from skilldeck_tui.screens.dialogs.matrix import MatrixScreen
from skilldeck_tui.screens.dialogs.pick import Pick, Row
from skilldeck_tui.screens.dialogs.prompt import Prompt
from skilldeck_tui.skills.skill_rows import SkillRow, skill_folders


class SkillWork(ModeScreen):
    """Actions of `SkillsScreen` on the folder of the selected skill."""

    @property
    def row(self) -> SkillRow | None:
        raise NotImplementedError

    def watch_folder(self, folder: Path) -> None:
        for found in skill_folders(folder):
            self.deck.remember_watch(self.deck.watcher.add(found), True)

    # ------------------------------------------------------------ tests

    def _tested(self) -> Path | None:
        """The selected skill's folder; says so when there is none."""
        folder = self.row.folder if self.row else None
        if folder is None:
            self.notify("Tests run from the skill's folder, which is not here; a adds one.", severity="warning")
        return folder

    def action_test(self) -> None:
        if (folder := self._tested()) is None:
            return
        suite = self.deck.tests.suites.get(folder)
        if suite is not None and suite.running:
            self.deck.tests.stop(folder)
        else:
            self.deck.tests.start(folder)

    def action_test_on_save(self) -> None:
        if (folder := self._tested()) is None:
            return
        on = str(folder) not in self.deck.memory.tested
        if on and folder not in self.state.watches:
            self.watch_folder(folder)
        self.deck.remember_tests(folder, on)
        says = "run after every save" if on else "run when you press t"
        self.notify(f"The tests of {folder.name} {says}.", timeout=3, markup=False)
        if on and folder not in self.deck.tests.suites:
            self.deck.tests.start(folder)

    def action_open_run(self) -> None:
        suite = self.row.suite if self.row else None
        runs = [result for result in suite.results.values() if result.run_id] if suite else []
        if not runs:
            self.notify("No test of this skill has run yet; t runs them.", timeout=3)
            return
        chosen = next((result for result in runs if not result.passed), runs[-1])
        self.deck.open_run(chosen.run_id)

    def action_matrix(self) -> None:
        if (row := self.row) is None:
            return
        self.app.push_screen(MatrixScreen(row.name, row.folder))

    # ------------------------------------------------------------ lint, and new skills

    def action_lint(self) -> None:
        row = self.row
        if row is None or row.folder is None:
            self.notify("Lint reads the skill's folder, which is not here; a adds one.", severity="warning")
            return
        self.deck.look_for_faults(row.folder)
        self.app.push_screen(LintScreen(row.name, row.folder))

    @work(exclusive=True, group="new")
    async def action_new_skill(self) -> None:
        from skilldeck_tui.new_skill.make import TEMPLATES, make

        kinds = [Row(template, template, about) for template, about in TEMPLATES.items()]
        template = await self.app.push_screen_wait(Pick("What does the new skill begin as?", kinds))
        if not template:
            return
        detail = f"Its name: lowercase letters, digits and hyphens. The folder is made in {Path.cwd()}."
        name = await self.app.push_screen_wait(Prompt("New skill", detail))
        if not name:
            return
        try:
            folder = await asyncio.to_thread(make, name, Path.cwd(), template=template)
        except SkilldeckError as error:
            self.deck.show_error(error)
            return
        self.watch_folder(folder)
        self.notify(f"Made {folder}. e opens SKILL.md, t runs its tests.", timeout=5, markup=False)
