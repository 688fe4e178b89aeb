"""The files that runs made: which ones a response cites, their sizes and content as the container still has them.

A mixin of `ChatScreen`. An expired container has nothing left: its files are named all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from pathlib import PurePosixPath

from textual import on, work

from skilldeck_shared.errors import SkilldeckError
from skilldeck_tui.chat.commands import ChatCommands
from skilldeck_tui.cited import Made, made_by
from skilldeck_tui.client.types import Object
from skilldeck_tui.screens.dialogs.pick import Pick, Row
from skilldeck_tui.widgets.transcript.made_files import PICTURE_BYTES, PICTURES, MadeFiles
from skilldeck_tui.widgets.transcript.pictures import Pictures

PAGE = 1000


class ChatMade(ChatCommands):
    def init_runs(self) -> None:
        super().init_runs()
        self._listed: dict[str, asyncio.Task[dict[str, Object]]] = {}  # by container

    def open(self, key: str) -> None:
        self._listed.clear()
        super().open(key)

    def made(self) -> list[Made]:
        """What the runs that are shown have made, the newest first; of one file its last state."""
        found: dict[tuple[str, str], Made] = {}
        for turn in reversed(self.turns):
            for file in made_by(turn.response):
                found.setdefault((file.container_id, file.file_id), file)
        return list(found.values())

    @on(MadeFiles.Asked)
    def _asked(self, event: MadeFiles.Asked) -> None:
        event.stop()
        self._show(event.widget, event.files)

    @work(group="made")
    async def _show(self, widget: MadeFiles, files: Iterable[Made]) -> None:
        """Give the widget sizes, and the pictures among the first files."""
        pictures = 0
        for file in files:
            known = (await self._container(file.container_id)).get(file.file_id)
            size = int((known or {}).get("bytes") or 0)
            widget.show_size(file, size if known is not None else None)
            if known is not None and file.is_picture and size <= PICTURE_BYTES and pictures < PICTURES:
                pictures += 1
                with suppress(SkilldeckError):
                    data = b"".join([chunk async for chunk in self.client.read_container_file(*file.place)])
                    await widget.picture(data)

    @on(Pictures.Wanted)
    def _wanted(self, event: Pictures.Wanted) -> None:
        event.stop()
        self._fetch_picture(event.widget, event.file_id)

    @work(group="made")
    async def _fetch_picture(self, widget: Pictures, file_id: str) -> None:
        """Give the widget a file of the daemon, if that still has it and it is no larger than is shown."""
        from skilldeck_tui.client.client import read_all  # the connection, for which the first paint does not wait

        if int((self.state.get("file", file_id) or {}).get("bytes") or 0) <= PICTURE_BYTES:
            with suppress(SkilldeckError):
                data = await read_all(self.client.read_file(file_id), PICTURE_BYTES + 1)
                if len(data) <= PICTURE_BYTES:
                    await widget.add(data)

    async def _container(self, container_id: str) -> dict[str, Object]:
        task = self._listed.get(container_id)
        if task is None:
            task = self._listed[container_id] = asyncio.create_task(self._list(container_id))
        return await asyncio.shield(task)

    async def _list(self, container_id: str) -> dict[str, Object]:
        try:
            page = await self.client.container_files(container_id, limit=PAGE)
        except SkilldeckError:
            return {}
        return {str(file["id"]): file for file in page.data}

    @on(MadeFiles.Opened)
    def _opened_file(self, event: MadeFiles.Opened) -> None:
        event.stop()
        self.look_at(event.file)

    def look_at(self, file: Made) -> None:
        from skilldeck_tui.screens.dialogs.look import (
            Look,  # it loads the connection, for which the first paint does not wait
        )

        self.app.push_screen(Look(file, self.client, self.attach_path))

    def action_made(self) -> None:
        """Choose one of the files that this session's runs made, and look at it."""
        files = self.made()
        if not files:
            self.notify("No run of this session made a file.", severity="warning")
        elif len(files) == 1:
            self.look_at(files[0])
        else:
            rows = [Row(str(at), file.name, str(PurePosixPath(file.folder))) for at, file in enumerate(files)]

            def picked(value: str | None) -> None:
                if value is not None:
                    self.look_at(files[int(value)])

            self.app.push_screen(Pick("Files that runs made", rows), picked)
