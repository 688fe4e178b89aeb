"""Fetching skills from elsewhere: a Git repository, a zip or tar archive (behind a URL or on disk), or a folder.

    async with fetched("owner/repo#skills/report") as (found,):
        found.folder, found.source     # the skill's folder, and where it came from exactly (commit or zip's SHA-256)

What is fetched lies in a temporary folder and is gone when the block ends. Nothing of it is run: a clone brings no
hooks and no submodules, an archive is unpacked within limits. Links count while they stay inside the source. Every
wait has an end. What is chosen from a source is `collection`'s.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import stat
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from skilldeck_shared.errors import BadRequest, SkilldeckError, Unavailable
from skilldeck_shared.paths import expanded
from skilldeck_shared.skills.zipnames import ENCRYPTED_FLAG, KIND_BYTES, member_name, other_archive
from skilldeck_shared.version import __version__
from skilldeck_tui.cli.installing.collection import Fetched, Source, choose

GIT_SECONDS = 120.0
HTTP_SECONDS = 30.0
"""Without a byte."""
DOWNLOAD_SECONDS = 600.0
ZIP_BYTES = 200 << 20
UNPACKED_BYTES = 1 << 30
MEMBERS = 20_000
CHUNK = 1 << 20
LINK_BYTES = 4096
HEADER_BYTES = 64 << 10
"""Of one member of a tar archive: its long name and the like, which are read into memory."""
# owner/repo, as people write repositories of GitHub; not ./folder, nor a path.
SHORT = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9_][A-Za-z0-9._-]*")
FORGES = ("github.com", "gitlab.com", "codeberg.org", "bitbucket.org")
# Only transports that fetch; `ext::` would run a program.
PROTOCOLS = "https:http:ssh:git:file"

ARCHIVE = re.compile(r"\.(?:zip|tar|tar\.gz|tgz|tar\.bz2|tar\.xz)$")

Progress = Callable[[int, int], None]


class FetchFailed(Unavailable):
    """The source cannot be fetched now."""

    code = "fetch_failed"


def parse_source(text: str, ref: str = "") -> Source:
    """Tell a folder, an archive, a Git URL (`git+…`, `….git`, `git@host:…`, ssh, file, a page of a forge), an archive's
    URL and `owner/repo` of GitHub.

    `#path` after one names the skill's folder inside. Raises BadRequest.
    """
    # A folder may have a # in its own name.
    if os.path.isdir(expanded(text)):
        return Source("folder", str(expanded(text).absolute()))
    url, _, path = text.partition("#")
    path = unquote(path).strip("/")
    if any(part in ("..", ".", "") for part in path.split("/")) and path:
        raise BadRequest(f"The path {path!r} leaves the source.", "Name a folder inside it.", param="source")
    local = expanded(url)
    if path and os.path.isdir(local):
        return Source("folder", str(local.absolute()), path)
    if os.path.isfile(local):
        return Source("zip", local.absolute().as_uri(), path)
    if SHORT.fullmatch(url):
        return Source("git", f"https://github.com/{url}", path, ref)
    parts = urlsplit(url)
    if url.startswith("git+"):
        return Source("git", url[4:], path, ref)
    if parts.scheme == "file" and _archive(Path(url2pathname(parts.path))):
        return Source("zip", url, path)
    if parts.scheme in ("ssh", "git", "file") or (not parts.scheme and "@" in url and ":" in url):
        return Source("git", url, path, ref)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadRequest(
            f"{text!r} is no folder and no URL that skills are fetched from.",
            "Give owner/repo, a folder, a zip or tar archive or its URL, or a Git URL (https://…/repo.git#path).",
            param="source",
        )
    if parts.path.endswith(".git"):
        return Source("git", url, path, ref)
    if ARCHIVE.search(parts.path):
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


def _archive(place: Path) -> bool:
    """Whether a path names an archive, which may be gone by now; a folder of that name is a repository."""
    return place.is_file() or (ARCHIVE.search(place.name) is not None and not place.is_dir())


@asynccontextmanager
async def fetched(
    text: str,
    *,
    ref: str = "",
    every: bool = False,
    names: Sequence[str] = (),
    progress: Progress | None = None,
) -> AsyncIterator[list[Fetched]]:
    """The skills of a source: one, or with `every` all that it holds, or those of these names or folders.

    Raises:
        BadRequest: it is no source, holds no skill, none of a name, or several and none was named.
        FetchFailed: it cannot be reached now.
    """
    source = parse_source(text, ref)
    if source.kind == "folder":
        yield await asyncio.to_thread(choose, Path(source.url), source, "", every, names)
        return
    home = Path(tempfile.mkdtemp(prefix="skilldeck-install-"))
    try:
        # Named like the repository: a skill at its top has its folder's name.
        name = ARCHIVE.sub("", urlsplit(source.url).path.rstrip("/").rsplit("/", 1)[-1].removesuffix(".git"))
        root = home / "source" / (name if name and name not in (".", "..") else "skill")
        if source.kind == "git":
            exact = await _clone(source, root)
        else:
            sha = await asyncio.to_thread(_download, source, home / "download", progress)
            exact = f"sha256:{sha}"
            await asyncio.to_thread(_unpack, home / "download", root)
        yield await asyncio.to_thread(choose, root, source, exact, every, names)
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
        lines = problems.decode(errors="replace").strip().splitlines() or [f"git ended with {process.returncode}"]
        # Advice may follow it.
        reason = (
            next((line for line in lines if line.startswith("fatal: ")), lines[-1]).removeprefix("fatal: ").rstrip(".")
        )
        raise FetchFailed(f"{source.url} cannot be cloned: {reason}.", "Check the URL and your access to it.")
    return output.decode(errors="replace")


def _download(source: Source, target: Path, progress: Progress | None) -> str:
    """Get an archive; returns its SHA-256."""
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
    if not zipfile.is_zipfile(target) and not _is_tar(target):
        with target.open("rb") as file:
            kind = other_archive(file.read(KIND_BYTES))
        hint = (
            "Give a zip or a tar archive, or unpack it and give the folder."
            if kind
            else f"For a Git repository: git+{source.url}"
        )
        raise BadRequest(f"{source.url} is {kind or 'no zip'}.", hint, param="source")
    return total.hexdigest()


def _is_tar(path: Path) -> bool:
    # An empty one would be any file of zeros.
    try:
        with tarfile.open(path, tarinfo=_Member) as opened:
            return opened.next() is not None
    except (tarfile.TarError, OSError, EOFError, zlib.error):
        return False


class _Member(tarfile.TarInfo):
    """One whose headers are no larger than names are."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        found = super().frombuf(buf, encoding, errors)
        if not (found.isreg() or found.isdir() or found.issym()) and found.size > HEADER_BYTES:
            raise tarfile.ReadError("a member is none that skills have")
        return found


def _unpack(archive: Path, root: Path) -> None:
    """Regular files and links that stay inside, within limits; an archive's one top folder stays."""
    if zipfile.is_zipfile(archive):
        _unzip(archive, root)
    else:
        _untar(archive, root)


def _untar(archive: Path, root: Path) -> None:
    room = UNPACKED_BYTES
    links: list[tuple[Path, str]] = []
    try:
        with tarfile.open(archive, tarinfo=_Member) as opened:
            for count, member in enumerate(opened, 1):
                if count > MEMBERS:
                    raise BadRequest(f"The archive has more than {MEMBERS:,} entries.", param="source")
                parts = [part for part in member.name.split("/") if part not in ("", ".")]
                if ".." in parts or member.name.startswith("/") or "\0" in member.name:
                    raise BadRequest(f"The archive holds the unsafe name {member.name[:80]!r}.", param="source")
                room -= member.size  # also of what is passed over: it is read to get behind it
                if room < 0:
                    raise _too_large()
                place = root.joinpath(*parts)
                if member.issym():
                    links.append((place, member.linkname))
                packed = opened.extractfile(member) if member.isreg() and parts else None
                if packed is not None:
                    place.parent.mkdir(parents=True, exist_ok=True)
                    with packed, place.open("xb") as file:
                        shutil.copyfileobj(packed, file)
                    place.chmod(0o755 if member.mode & stat.S_IXUSR else 0o644)
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise BadRequest(f"The archive cannot be unpacked: {error}.", param="source") from error
    _link(root, links)


def _unzip(archive: Path, root: Path) -> None:
    room = UNPACKED_BYTES
    links: list[tuple[Path, str]] = []
    try:
        with zipfile.ZipFile(archive) as opened:
            infos = opened.infolist()
            if len(infos) > MEMBERS:
                raise BadRequest(f"The zip has {len(infos):,} entries; at most {MEMBERS:,} are read.", param="source")
            for info in infos:
                name, mode = member_name(info), info.external_attr >> 16
                parts = [part for part in name.split("/") if part not in ("", ".")]
                kind = stat.S_IFMT(mode)
                if name.endswith("/") or not parts or kind not in (0, stat.S_IFREG, stat.S_IFLNK):
                    continue
                if ".." in parts or name.startswith("/") or "\0" in name:
                    raise BadRequest(f"The zip holds the unsafe name {name[:80]!r}.", param="source")
                if info.flag_bits & ENCRYPTED_FLAG:
                    raise BadRequest(f"{name!r} in the zip is encrypted.", "Zip it without a password.", param="source")
                place = root.joinpath(*parts)
                if kind == stat.S_IFLNK:
                    with opened.open(info) as packed:
                        links.append((place, packed.read(LINK_BYTES).decode("utf-8", "replace")))
                    continue
                place.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(info) as packed, place.open("xb") as file:
                    room -= _inflate(packed, file, room)
                place.chmod(0o755 if mode & stat.S_IXUSR else 0o644)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        raise BadRequest(f"The zip cannot be unpacked: {error}.", param="source") from error
    _link(root, links)


def _link(root: Path, links: Sequence[tuple[Path, str]]) -> None:
    """Make an archive's links, after its files: nothing is written through one. Others than inner ones are left out."""
    top = os.path.abspath(root)
    for place, target in links:
        inner = os.path.normpath(os.path.join(os.path.abspath(place.parent), target))
        if os.path.isabs(target) or "\0" in target or not inner.startswith(f"{top}{os.sep}"):
            continue
        with suppress(OSError):  # a file of that name, or a parent that is one
            # Not through a link made before: the parent must be a folder of its own.
            if place.parent.resolve() == root.resolve() / place.parent.relative_to(root):
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(target)


def _inflate(packed: object, file: BinaryIO, room: int) -> int:
    written = 0
    while chunk := packed.read(CHUNK):  # type: ignore[attr-defined]
        written += len(chunk)
        if written > room:
            raise _too_large()
        file.write(chunk)
    return written


def _too_large() -> BadRequest:
    return BadRequest(f"It unpacks to more than {UNPACKED_BYTES >> 30} GiB.", param="source")
