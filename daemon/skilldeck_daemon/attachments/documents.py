"""Documents as text: PDF, Word, Excel, PowerPoint, EPUB and HTML, converted inside a sandbox.

Parsers are attack surface, so each conversion (`convert_document.py`) runs in a container of its own that lives for
it alone: no network, the smallest memory tier, limits of processor time and clock, the Python packages read-only. With
`--sandbox none` it is a plain process of the daemon's user, still apart from the daemon. A result is kept by the
content's SHA-256 in a folder of bounded size, which may be lost at any time; what cannot be converted is an answer as
well, a sentence that says why, and never an error. Blocks nothing: files are read and written in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shlex
import sys
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from skilldeck_daemon.attachments import convert_document, library_copy
from skilldeck_daemon.containers import Bind, CommandResult, Container, Containers, ContainerSpec
from skilldeck_daemon.store import new_id
from skilldeck_shared import private
from skilldeck_shared.errors import SkilldeckError

log = logging.getLogger(__name__)

DOCUMENT_BYTES = 64 * 1024 * 1024
CACHE_BYTES = 256 * 1024 * 1024
CONCURRENT = 2
TIMEOUT_MS = 90_000
FORMAT = 1
"""Of the kept results; raise it when conversion changes, so that older ones are made anew."""
LIBRARY = "/run/library"
# More than the text can have: its escapes, four bytes a character.
_RESULT_BYTES = convert_document.TEXT_CHARS * 6 + 4096
_REMEMBERED = 1024
_SIGXCPU_EXIT, _SIGKILL_EXIT = 152, 137

TOO_BIG = f"Documents of more than {DOCUMENT_BYTES // 1024 // 1024} MiB are not read."
NOT_INSTALLED = "Documents cannot be read here: the daemon was installed without the markitdown package."
NOT_NOW = "The document could not be read now."

_OFFICE = (".docx", ".xlsx", ".pptx", ".docm", ".xlsm", ".pptm", ".dotx", ".xltx", ".potx", ".ppsx", ".epub")
_LEGACY = (".doc", ".xls", ".ppt")
_HTML = (".html", ".htm", ".xhtml")
_MEDIA = ("application/vnd.openxmlformats-officedocument.", "application/epub+zip")


@dataclass(frozen=True)
class Converted:
    """`text` of a document (`cut` at the limit), or None and the `note` why there is none."""

    text: str | None = None
    cut: bool = False
    note: str = ""


def is_document(name: str, media_type: str, head: bytes) -> bool:
    """Whether a file is one that `Documents` converts, by its first bytes and what it is called."""
    suffix, media = Path(name).suffix.lower(), media_type.lower()
    if b"%PDF-" in head[:1024]:
        return True
    if head.startswith(b"PK\x03\x04"):
        return suffix in _OFFICE or media.startswith(_MEDIA)
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        return suffix in _OFFICE + _LEGACY or media.startswith((*_MEDIA, "application/msword", "application/vnd.ms-"))
    return is_html(name, media, head)


def is_html(name: str, media_type: str, head: bytes) -> bool:
    """Whether it is a page of HTML, which is text when it cannot be converted."""
    if media_type.lower().startswith(("text/html", "application/xhtml+xml")):
        return True
    return Path(name).suffix.lower() in _HTML and b"<" in head


class Documents:
    """Converts documents. One object serves the daemon; `close` it before the containers."""

    def __init__(self, containers: Containers, cache: Path, *, concurrent: int = CONCURRENT) -> None:
        """
        Args:
            containers: started before the first conversion.
            cache: folder of the results; made when needed.
            concurrent: how many conversions run at once; more wait.
        """
        self._containers = containers
        self._cache = cache
        self._slots = asyncio.Semaphore(concurrent)
        self._preparing = asyncio.Lock()
        self._library: Path | None = None
        self._running: dict[str, asyncio.Task[Converted]] = {}
        self._remembered: OrderedDict[str, Converted] = OrderedDict()  # what may go better after a restart
        self._kept_bytes = -1

    async def text(self, sha256: str, source: Path | bytes, *, page: bool = False) -> Converted:
        """The text of the document with this content. Cancelling the caller leaves the work to who asks next.

        Args:
            page: it is a page of the web: menus and what nobody sees are left out.
        """
        if page:
            sha256 += "-page"
        if sha256 in self._remembered:
            return self._remembered[sha256]
        kept = await asyncio.to_thread(self._read, sha256)
        if kept is not None:
            return kept
        task = self._running.get(sha256)
        if task is None:
            task = asyncio.create_task(self._make(sha256, source, page), name=f"document {sha256[:12]}")
            self._running[sha256] = task
            task.add_done_callback(lambda _: self._running.pop(sha256, None))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """End what runs."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(library_copy.remove, self._containers.base)

    # -- conversion

    async def _make(self, sha256: str, source: Path | bytes, page: bool) -> Converted:
        size = len(source) if isinstance(source, bytes) else (await asyncio.to_thread(source.stat)).st_size
        if size > DOCUMENT_BYTES:
            return Converted(note=TOO_BIG)
        async with self._slots:
            try:
                made, lasting = await self._convert(source, page)
            except (SkilldeckError, OSError) as error:
                log.warning("a document could not be converted: %s", error)
                return Converted(note=f"{NOT_NOW} {getattr(error, 'title', '')}".strip())
            except Exception:
                log.exception("a document could not be converted, by a fault of the daemon")
                return Converted(note=NOT_NOW)
        if lasting:
            await asyncio.to_thread(self._write, sha256, made)
        elif made.note:
            self._remembered[sha256] = made
            if len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)
        return made

    async def _convert(self, source: Path | bytes, page: bool) -> tuple[Converted, bool]:
        """The result, and whether the same document would always give it."""
        site = library_copy.site_packages()
        if site is None:
            return Converted(note=NOT_INSTALLED), False
        tools = self._containers.tools
        binds: tuple[Bind, ...] = ()
        if self._containers.sandbox == "none":
            library, python = str(site), sys.executable
        elif tools is None:
            return Converted(note=f"{NOT_NOW} There is no sandbox to read it in."), False
        else:
            async with self._preparing:
                if self._library is None:
                    self._library = await asyncio.to_thread(
                        library_copy.within_reach, site, tools.uid, self._containers.base
                    )
            library, python = LIBRARY, str(tools.python.executable)
            binds = (Bind(self._library, LIBRARY),)
        container = await self._containers.create(ContainerSpec(new_id("document"), binds=binds, base=False))
        try:
            await container.put("document", source)
            await container.put("convert.py", Path(convert_document.__file__))
            command = [python, "-I", "-S", "-B", "convert.py", library, "document", "result.json"]
            command += ["page"] if page else []
            (result,) = await container.exec([shlex.join(command)], timeout_ms=TIMEOUT_MS, max_output_length=4096)
            return await _outcome(container, result)
        finally:
            await asyncio.shield(container.close())

    # -- what is kept

    def _path(self, sha256: str) -> Path:
        return self._cache / sha256[:2] / f"{sha256}.{FORMAT}"

    def _read(self, sha256: str) -> Converted | None:
        path = self._path(sha256)
        try:
            kept = json.loads(zlib.decompress(path.read_bytes()))
            os.utime(path)  # the least recently used goes first
            return Converted(kept["text"], kept["cut"], kept["note"])
        except (OSError, ValueError, KeyError, TypeError, zlib.error):
            return None

    def _write(self, sha256: str, made: Converted) -> None:
        path = self._path(sha256)
        data = zlib.compress(json.dumps({"text": made.text, "cut": made.cut, "note": made.note}).encode(), 3)
        partial = path.with_suffix(f".{os.urandom(4).hex()}")
        try:
            private.folder(self._cache)
            path.parent.mkdir(exist_ok=True)
            private.write(partial, data)
            partial.replace(path)
        except OSError as error:
            log.warning("a converted document could not be kept: %s", error)
            return
        if self._kept_bytes < 0:
            self._kept_bytes = sum(file.stat().st_size for file in self._cache.glob("*/*"))
        else:
            self._kept_bytes += len(data)
        if self._kept_bytes > CACHE_BYTES:
            self._prune()

    def _prune(self) -> None:
        """Forget the least recently used until three quarters of the room are taken."""
        files = []
        for file in self._cache.glob("*/*"):
            with contextlib.suppress(FileNotFoundError):  # another thread may do the same
                info = file.stat()
                files.append((info.st_mtime_ns, info.st_size, file))
        total = sum(size for _, size, _ in files)
        for _, size, file in sorted(files):
            if total <= CACHE_BYTES * 3 // 4:
                break
            file.unlink(missing_ok=True)
            total -= size
        self._kept_bytes = total


def _plain(text: str) -> str:
    """Without what cannot be encoded or stored, whoever wrote it."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


async def _outcome(container: Container, result: CommandResult) -> tuple[Converted, bool]:
    """What the program in the container left behind; nothing of it is trusted but text."""
    if result.timed_out:
        return Converted(note=convert_document.TOO_SLOW), False
    if result.exit_code == _SIGXCPU_EXIT:
        return Converted(note=convert_document.TOO_SLOW), True
    if result.exit_code == _SIGKILL_EXIT:
        return Converted(note=convert_document.TOO_LARGE), False
    try:
        content = await container.read("/mnt/data/result.json", _RESULT_BYTES)
        converted = await asyncio.to_thread(json.loads, content)
        text, note, fault = converted.get("text"), converted.get("note"), converted.get("fault")
    except (SkilldeckError, ValueError, AttributeError, RecursionError):
        log.warning("a conversion ended with exit code %s: %s", result.exit_code, result.stderr[-500:])
        return Converted(note=convert_document.DAMAGED), False
    if isinstance(text, str):
        return Converted(_plain(text[: convert_document.TEXT_CHARS]), converted.get("cut") is True), True
    if isinstance(note, str):
        return Converted(note=_plain(note[:300])), True
    log.error("documents cannot be converted: %s", fault)
    return Converted(note=f"{NOT_NOW} The daemon's log says why."), False
