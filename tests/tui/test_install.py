"""Installing from Git, a zip and a folder: what is chosen, what is recorded, what is refused."""

from __future__ import annotations

import io
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from skilldeck_shared.errors import BadRequest
from skilldeck_shared.manifest import ManifestError
from skilldeck_tui import install
from skilldeck_tui.client import Client
from skilldeck_tui.install import FetchFailed, fetched, parse_source
from skilldeck_tui.upload import upload_folder
from support.fake_daemon import FakeDaemon

FRONT = "---\nname: {}\ndescription: Does it.\n---\n"


def git(folder: Path, *command: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *identity, *command], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two skills, a hook and two commits; a tag on the first."""
    root = tmp_path_factory.mktemp("git") / "tools"
    for name in ("report", "count"):
        (root / "skills" / name / "scripts").mkdir(parents=True)
        (root / "skills" / name / "SKILL.md").write_text(FRONT.format(name))
    git(root, "init", "-q")
    script = root / "skills/report/scripts/run.sh"
    script.write_text("#!/bin/sh\necho one\n")
    git(root, "add", ".")
    git(root, "commit", "-qm", "one")
    git(root, "tag", "v1")
    script.write_text("#!/bin/sh\necho two\n")
    script.chmod(0o755)
    git(root, "commit", "-qam", "two")
    hook = root / ".git/hooks/post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ntouch /tmp/never\n")
    return root


def zipped(files: dict[str, str], links: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o100755 if name.endswith(".sh") else 0o100644) << 16
            archive.writestr(info, text)
        for name, target in (links or {}).items():
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o120777 << 16
            archive.writestr(info, target)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[str, dict[str, bytes]]]:
    """A web server on loopback and what it serves."""
    pages: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = pages.get(self.path)
            self.send_response(200 if body is not None else 404)
            self.send_header("content-length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", pages
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("text", "kind", "url", "path", "ref"),
    [
        ("https://github.com/o/r", "git", "https://github.com/o/r", "", ""),
        ("https://github.com/o/r#a/b/", "git", "https://github.com/o/r", "a/b", ""),
        ("https://github.com/o/r/tree/main/a/b", "git", "https://github.com/o/r", "a/b", "main"),
        ("https://gitlab.com/o/r/-/tree/v2/x", "git", "https://gitlab.com/o/r", "x", "v2"),
        ("https://example.org/r.git#x", "git", "https://example.org/r.git", "x", ""),
        ("git+http://example.org/r", "git", "http://example.org/r", "", ""),
        ("git@example.org:o/r", "git", "git@example.org:o/r", "", ""),
        ("https://example.org/r.zip#x", "zip", "https://example.org/r.zip", "x", ""),
        ("https://example.org/r", "url", "https://example.org/r", "", ""),
    ],
)
def test_what_a_source_means(text: str, kind: str, url: str, path: str, ref: str) -> None:
    source = parse_source(text)
    assert (source.kind, source.url, source.path, source.ref) == (kind, url, path, ref)


@pytest.mark.parametrize(
    "text", ["nothing-here", "ftp://example.org/x.zip", "https://example.org/r.git#../x", "ext::sh"]
)
def test_what_no_source_is(text: str) -> None:
    with pytest.raises(BadRequest):
        parse_source(text)


async def test_a_folder_of_a_repository_arrives_whole_with_its_commit(repository: Path) -> None:
    url = f"file://{repository}"
    async with fetched(f"{url}#skills/report") as (found,):
        script = found.folder / "scripts/run.sh"
        assert script.read_text().endswith("two\n")
        assert script.stat().st_mode & 0o100
        assert found.folder.name == "report"
        assert found.source == f"git+{url}@{git(repository, 'rev-parse', 'HEAD')}#skills/report"
        kept = found.folder
    assert not kept.exists()
    async with fetched(f"{url}#skills/report", ref="v1") as (found,):
        assert (found.folder / "scripts/run.sh").read_text().endswith("one\n")


async def test_several_skills_are_named_in_the_refusal_or_all_taken(repository: Path) -> None:
    url = f"file://{repository}"
    with pytest.raises(BadRequest, match=r"2 skills: skills/count, skills/report") as caught:
        async with fetched(url):
            pass
    assert "--all" in caught.value.hint
    async with fetched(url, every=True) as found:
        assert [skill.folder.name for skill in found] == ["count", "report"]


async def test_a_folder_that_holds_several_names_what_installs_one_of_them(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "deck" / name).mkdir(parents=True)
        (tmp_path / "deck" / name / "SKILL.md").write_text(FRONT.format(name))
    with pytest.raises(BadRequest) as caught:
        async with fetched(str(tmp_path / "deck")):
            pass
    named = caught.value.hint.partition("(")[2].partition(")")[0]
    async with fetched(named) as (found,):
        assert (found.folder, found.source) == (tmp_path / "deck/one", str(tmp_path / "deck/one"))
    for wrong in ("#none", "#../deck"):
        with pytest.raises(BadRequest):
            async with fetched(f"{tmp_path / 'deck'}{wrong}"):
                pass


async def test_what_cannot_be_cloned_says_so(repository: Path, tmp_path: Path) -> None:
    for source, ref in ((f"file://{tmp_path}/none", ""), (f"file://{repository}", "no-such-ref")):
        with pytest.raises(FetchFailed):
            async with fetched(source, ref=ref):
                pass
    with pytest.raises(BadRequest, match="no folder 'skills/none'"):
        async with fetched(f"file://{repository}#skills/none"):
            pass
    with pytest.raises(BadRequest, match="hyphen"):
        async with fetched(f"file://{repository}", ref="--upload-pack=x"):
            pass


async def test_a_zip_is_unpacked_without_links_and_its_hash_recorded(site: tuple[str, dict[str, bytes]]) -> None:
    url, pages = site
    files = {"r-main/skills/zipped/SKILL.md": FRONT.format("zipped"), "r-main/skills/zipped/run.sh": "#!/bin/sh\n"}
    pages["/r.zip"] = pages["/download"] = zipped(files, {"r-main/skills/zipped/out": "/etc/passwd"})
    for source in (f"{url}/r.zip", f"{url}/download", f"{url}/r.zip#skills/zipped"):
        async with fetched(source) as (found,):
            assert sorted(item.name for item in found.folder.iterdir()) == ["SKILL.md", "run.sh"]
            assert (found.folder / "run.sh").stat().st_mode & 0o100
            assert "@sha256:" in found.source
            assert found.source.endswith("#r-main/skills/zipped")


async def test_a_zip_on_disk_is_unpacked_like_one_behind_a_url(tmp_path: Path) -> None:
    archive = tmp_path / "my skills.zip"
    archive.write_bytes(zipped({"one/SKILL.md": FRONT.format("one"), "two/SKILL.md": FRONT.format("two")}))
    async with fetched(f"{archive}#two") as (found,):
        assert found.folder.name == "two"
        assert found.source.startswith(f"{archive.as_uri()}@sha256:")
        assert found.source.endswith("#two")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(BadRequest, match="no zip"):
        async with fetched(str(tmp_path / "notes.txt")):
            pass


async def test_bad_downloads_are_refused(site: tuple[str, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch) -> None:
    url, pages = site
    pages["/page"] = b"<html>"
    pages["/up.zip"] = zipped({"a/../../evil": "x"})
    pages["/empty.zip"] = zipped({"a/readme.txt": "x"})
    pages["/big.zip"] = zipped({"a/SKILL.md": "x" * 5000})
    with pytest.raises(FetchFailed, match="404"):
        async with fetched(f"{url}/none.zip"):
            pass
    for page, word in (("page", "no zip"), ("up.zip", "unsafe"), ("empty.zip", "no SKILL.md")):
        with pytest.raises(BadRequest, match=word):
            async with fetched(f"{url}/{page}"):
                pass
    monkeypatch.setattr(install, "UNPACKED_BYTES", 4000)
    with pytest.raises(BadRequest, match="unpacks"):
        async with fetched(f"{url}/big.zip"):
            pass
    monkeypatch.setattr(install, "ZIP_BYTES", 4000)
    with pytest.raises(BadRequest, match="more than"):
        async with fetched(f"{url}/big.zip"):
            pass


async def test_what_was_installed_shows_its_origin_and_a_broken_skill_is_not(repository: Path, tmp_path: Path) -> None:
    fake = FakeDaemon()
    async with fake.client() as client:
        done = await _install(client, f"file://{repository}#skills/count")
        assert done.startswith(f"git+file://{repository}@")
        (header,) = [request.header for request in fake.called("UploadSkill")]
        assert header.origin == "install"
        assert len(header.digest) == 64
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad/SKILL.md").write_text("---\nname: bad\n---\n")
        with pytest.raises(ManifestError):
            await _install(client, str(tmp_path / "bad"))
        assert [skill["name"] for skill in fake.objects["skill"].values()] == ["count"]


async def _install(client: Client, source: str) -> str:
    async with fetched(source) as (found,):
        done = await upload_folder(client, found.folder, source=found.source, origin="install")
    return str(done.skill["source"])
