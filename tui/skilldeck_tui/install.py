"""Fetching skills from elsewhere: a Git repository, a zip (behind a URL or on disk), or a folder.

    async with fetched("https://github.com/owner/repo#skills/report") as found:
        found.folder, found.source     # the skill's folder, and where it came from exactly (commit or zip's SHA-256)

What is fetched lies in a temporary folder and is gone when the block ends. Nothing of it is run: a clone brings no
hooks and no submodules, a zip is unpacked within limits and without links. Every wait has an end.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import stat
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal
from urllib.parse import unquote, urlsplit

from skilldeck_shared.errors import BadRequest, SkilldeckError, Unavailable
from skilldeck_shared.version import __version__

GIT_SECONDS = 120.0
HTTP_SECONDS = 30.0
"""Without a byte."""
DOWNLOAD_SECONDS = 600.0
ZIP_BYTES = 200 << 20
UNPACKED_BYTES = 1 << 30
MEMBERS = 20_000
CHUNK = 1 << 20
FOLDERS = 5000
SKIPPED = {".git", "node_modules"}
FORGES = ("github.com", "gitlab.com", "codeberg.org", "bitbucket.org")
# Only transports that fetch; `ext::` would run a program.
PROTOCOLS = "https:http:ssh:git:file"

Progress = Callable[[int, int], None]


class FetchFailed(Unavailable):
    """The source cannot be fetched now."""

    code = "fetch_failed"


@dataclass(frozen=True)
class Source:
    """A source as it was written. `path` is the folder of the skill inside it, `ref` a branch or tag."""

    kind: Literal["git", "zip", "url", "folder"]
    url: str
    path: str = ""
    ref: str = ""


@dataclass(frozen=True)
class Fetched:
    """A skill's folder, and the text that says where it came from."""

    folder: Path
    source: str


def parse_source(text: str, ref: str = "") -> Source:
    """Tell a folder, a zip, a Git URL (`git+…`, `….git`, `git@host:…`, ssh, file, a page of a forge) and a zip's URL.

    `#path` after one names the skill's folder inside. Raises BadRequest.
    """
    # A folder may have a # in its own name.
    if Path(text).expanduser().is_dir():
        return Source("folder", str(Path(text).expanduser().absolute()))
    url, _, path = text.partition("#")
    path = unquote(path).strip("/")
    if any(part in ("..", ".", "") for part in path.split("/")) and path:
        raise BadRequest(f"The path {path!r} leaves the source.", "Name a folder inside it.", param="source")
    local = Path(url).expanduser()
    if path and local.is_dir():
        return Source("folder", str(local.absolute()), path)
    if local.is_file():
        return Source("zip", local.absolute().as_uri(), path)
    parts = urlsplit(url)
    if url.startswith("git+"):
        return Source("git", url[4:], path, ref)
    if parts.scheme in ("ssh", "git", "file") or (not parts.scheme and "@" in url and ":" in url):
        return Source("git", url, path, ref)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadRequest(
            f"{text!r} is no folder and no URL that skills are fetched from.",
            "Give a folder, a zip, a Git URL (https://…/repo.git#path), or the URL of a zip.",
            param="source",
        )
    if parts.path.endswith(".git"):
        return Source("git", url, path, ref)
    if parts.path.endswith(".zip"):
        return Source("zip", url, path)
    pieces = [piece for piece in parts.path.split("/") if piece]
    if parts.hostname in FORGES and len(pieces) >= 2:
        repository = f"{parts.scheme}://{parts.netloc}/{pieces[0]}/{pieces[1]}"
        inside = [piece for piece in pieces[2:] if piece != "-"]
        if not inside:
            return Source("git", repository, path, ref)
        if len(inside) >= 2 and inside[0] in ("tree", "blob"):
            return Source("git", repository, path or unquote("/".join(inside[2:])), ref or inside[1])
    return Source("url", url, path)


@asynccontextmanager
async def fetched(
    text: str, *, ref: str = "", every: bool = False, progress: Progress | None = None
) -> AsyncIterator[list[Fetched]]:
    """The skills of a source: one, or with `every` all that it holds.

    Raises:
        BadRequest: it is no source, holds no skill, or holds several and none was named.
        FetchFailed: it cannot be reached now.
    """
    source = parse_source(text, ref)
    if source.kind == "folder":
        yield _choose(Path(source.url), source, "", every)
        return
    home = Path(tempfile.mkdtemp(prefix="skilldeck-install-"))
    try:
        # Named like the repository: a skill at its top has its folder's name.
        name = urlsplit(source.url).path.rstrip("/").rsplit("/", 1)[-1].removesuffix(".git").removesuffix(".zip")
        root = home / "source" / (name if name and name not in (".", "..") else "skill")
        if source.kind == "git":
            exact = await _clone(source, root)
        else:
            sha = await asyncio.to_thread(_download, source, home / "download.zip", progress)
            exact = f"sha256:{sha}"
            await asyncio.to_thread(_unpack, home / "download.zip", root)
        yield await asyncio.to_thread(_choose, root, source, exact, every)
    finally:
        await asyncio.to_thread(shutil.rmtree, home, True)


async def _clone(source: Source, root: Path) -> str:
    """Clone the newest commit; returns its id."""
    if source.url.startswith("-") or source.ref.startswith("-"):
        raise BadRequest("A Git URL or ref cannot begin with a hyphen.", param="source")
    command = ["clone", "--quiet", "--depth", "1", "--single-branch", "--no-tags", "--no-recurse-submodules"]
    command += ["--template", "", *(["--branch", source.ref] if source.ref else []), "--", source.url, str(root)]
    await _git(command, source)
    return (await _git(["-C", str(root), "rev-parse", "HEAD"], source)).strip()


async def _git(command: Sequence[str], source: Source) -> str:
    safe = ["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.symlinks=true"]
    env = {
        **os.environ,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": PROTOCOLS,
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_SSH_COMMAND": os.environ.get("GIT_SSH_COMMAND", "ssh -o BatchMode=yes"),
    }
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        env.pop(name, None)
    try:
        process = await asyncio.create_subprocess_exec(
            "git", *safe, *command, env=env, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise SkilldeckError("Git is not installed.", "Install git, or give the URL of a zip.") from error
    try:
        async with asyncio.timeout(GIT_SECONDS):
            output, problems = await process.communicate()
    except TimeoutError as error:
        raise FetchFailed(f"{source.url} was not cloned within {GIT_SECONDS:.0f} s.", "Try again.") from error
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        lines = problems.decode(errors="replace").strip().splitlines()
        reason = lines[-1].removeprefix("fatal: ") if lines else f"git ended with {process.returncode}"
        raise FetchFailed(f"{source.url} cannot be cloned: {reason}.", "Check the URL and your access to it.")
    return output.decode(errors="replace")


def _download(source: Source, target: Path, progress: Progress | None) -> str:
    """Get a zip; returns its SHA-256."""
    request = urllib.request.Request(source.url, headers={"User-Agent": f"skilldeck/{__version__}"})
    total = hashlib.sha256()
    done, began = 0, time.monotonic()
    try:
        with urllib.request.urlopen(request, timeout=HTTP_SECONDS) as answer, target.open("xb") as file:
            announced = int(answer.headers.get("Content-Length") or 0)
            while chunk := answer.read(CHUNK):
                done += len(chunk)
                if time.monotonic() - began > DOWNLOAD_SECONDS:
                    raise FetchFailed(f"{source.url} took more than {DOWNLOAD_SECONDS:.0f} s.", "Try again.")
                if max(done, announced) > ZIP_BYTES:
                    raise BadRequest(
                        f"{source.url} has more than {ZIP_BYTES >> 20} MiB.", "Give a smaller zip.", param="source"
                    )
                total.update(chunk)
                file.write(chunk)
                if progress is not None and announced:
                    progress(done, announced)
    except urllib.error.HTTPError as error:
        raise FetchFailed(f"{source.url} answered {error.code} {error.reason}.", "Check the URL.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise FetchFailed(f"{source.url} cannot be fetched: {reason}.", "Try again.") from error
    if not zipfile.is_zipfile(target):
        raise BadRequest(f"{source.url} is no zip.", f"For a Git repository: git+{source.url}", param="source")
    return total.hexdigest()


def _unpack(archive: Path, root: Path) -> None:
    """Regular files only, within limits; a zip's one top folder stays."""
    room = UNPACKED_BYTES
    try:
        with zipfile.ZipFile(archive) as opened:
            infos = opened.infolist()
            if len(infos) > MEMBERS:
                raise BadRequest(f"The zip has {len(infos):,} entries; at most {MEMBERS:,} are read.", param="source")
            for info in infos:
                mode = info.external_attr >> 16
                parts = [part for part in info.filename.split("/") if part not in ("", ".")]
                if info.is_dir() or not parts or stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                    continue
                if ".." in parts or info.filename.startswith("/") or "\\" in info.filename or "\0" in info.filename:
                    raise BadRequest(f"The zip holds the unsafe name {info.filename[:80]!r}.", param="source")
                place = root.joinpath(*parts)
                place.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(info) as packed, place.open("xb") as file:
                    room -= _inflate(packed, file, room)
                place.chmod(0o755 if mode & stat.S_IXUSR else 0o644)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        raise BadRequest(f"The zip cannot be unpacked: {error}.", param="source") from error


def _inflate(packed: object, file: BinaryIO, room: int) -> int:
    written = 0
    while chunk := packed.read(CHUNK):  # type: ignore[attr-defined]
        written += len(chunk)
        if written > room:
            raise BadRequest(f"The zip unpacks to more than {UNPACKED_BYTES >> 30} GiB.", param="source")
        file.write(chunk)
    return written


def _choose(root: Path, source: Source, exact: str, every: bool) -> list[Fetched]:
    """The skill that was meant, or all."""
    start = root / source.path
    if not start.resolve().is_relative_to(root.resolve()) or not start.is_dir():
        # A zip of a forge has one top folder that nobody writes down.
        tops = [item for item in root.iterdir() if item.is_dir()] if root.is_dir() else []
        inner = tops[0] / source.path if len(tops) == 1 else start
        if not inner.resolve().is_relative_to(root.resolve()) or not inner.is_dir():
            raise BadRequest(f"{source.url} holds no folder {source.path!r}.", param="source")
        start = inner
    found = sorted(_skills(start))
    if not found:
        raise BadRequest(
            f"{source.url}{f'#{source.path}' if source.path else ''} holds no SKILL.md.",
            "Name the skill's folder: SOURCE#path/to/skill.",
            param="source",
        )
    if len(found) > 1 and not every:
        names = ", ".join(_within(root, folder) for folder in found[:20])
        raise BadRequest(
            f"{source.url} holds {len(found)} skills: {names}.",
            f"Name one ({source.url}#{_within(root, found[0])}), or install all with --all.",
            param="source",
        )
    return [Fetched(folder, _told(source, _within(root, folder), exact)) for folder in found]


def _skills(start: Path) -> list[Path]:
    """The folders with a SKILL.md below `start`, itself included; none inside another."""
    found = []
    for number, (folder, folders, files) in enumerate(os.walk(start)):
        if number >= FOLDERS:
            break
        folders[:] = [name for name in folders if name not in SKIPPED]
        if any(name.lower() == "skill.md" for name in files):
            found.append(Path(folder))
            folders.clear()
    return found


def _within(root: Path, folder: Path) -> str:
    path = folder.relative_to(root).as_posix()
    return "" if path == "." else path


def _told(source: Source, path: str, exact: str) -> str:
    """`git+URL@commit#path`, `URL@sha256:…#path`, or the folder."""
    if source.kind == "folder":
        return str(Path(source.url) / path)
    parts = urlsplit(source.url)
    # What opens the door is not written down.
    shown = parts._replace(netloc=parts.netloc.rsplit("@", 1)[-1]).geturl() if parts.scheme else source.url
    return f"{'git+' if source.kind == 'git' else ''}{shown}@{exact}{f'#{path}' if path else ''}"
