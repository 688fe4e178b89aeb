"""Installing from Git, a zip and a folder: what is chosen, what is recorded, what is refused."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from skilldeck_shared.errors import BadRequest
from skilldeck_shared.skills.bundle import BundleError, zip_stream
from skilldeck_shared.skills.manifest import ManifestError
from skilldeck_tui.cli.installing import sources as install
from skilldeck_tui.cli.installing.sources import FetchFailed, fetched, parse_source
from skilldeck_tui.cli.main import app
from skilldeck_tui.client.client import Client
from skilldeck_tui.client.upload import read_folder, upload_folder
from support.bundles import raw_zip
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
        ("owner/r.epo", "git", "https://github.com/owner/r.epo", "", ""),
        ("owner/repo#a/b", "git", "https://github.com/owner/repo", "a/b", ""),
    ],
)
def test_what_a_source_means(text: str, kind: str, url: str, path: str, ref: str) -> None:
    source = parse_source(text)
    assert (source.kind, source.url, source.path, source.ref) == (kind, url, path, ref)


@pytest.mark.parametrize(
    "text",
    ["nothing-here", "./a/b", "a/b/c", "../a", "ftp://example.org/x.zip", "https://example.org/r.git#../x", "ext::sh"],
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
        with pytest.raises(FetchFailed, match=r"(to be a git repository|not found in upstream origin)\. "):
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
        again = found.source.partition("@sha256:")[0]  # as `update` asks for it
    async with fetched(again, names=["two"]) as (found,):
        assert found.folder.name == "two"
    archive.unlink()
    with pytest.raises(FetchFailed, match="No such file"):
        async with fetched(again):
            pass
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(BadRequest, match="no zip"):
        async with fetched(str(tmp_path / "notes.txt")):
            pass


def tarred(files: dict[str, str], links: dict[str, str] | None = None, mode: str = "w:gz", **odd: object) -> bytes:
    """`odd` are attributes of a last member."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:  # type: ignore[call-overload]
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text), 0o755 if name.endswith(".sh") else 0o644
            archive.addfile(member, io.BytesIO(text.encode()))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
        if odd:
            member = tarfile.TarInfo("odd")
            for name, value in odd.items():
                setattr(member, name, value)
            archive.addfile(member)
    return packed.getvalue()


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", ""])
async def test_a_tar_archive_is_unpacked_like_a_zip(tmp_path: Path, kind: str) -> None:
    archive = tmp_path / f"r.tar{kind and '.' + kind}"
    files = {"r-main/skills/one/SKILL.md": FRONT.format("one"), "r-main/skills/one/run.sh": "#!/bin/sh\n"}
    links = {"r-main/skills/one/out": "/etc/passwd", "r-main/skills/one/in.md": "SKILL.md", "r-main/up": "../../x"}
    archive.write_bytes(tarred(files, links, f"w:{kind}"))
    async with fetched(str(archive)) as (found,):
        assert sorted(item.name for item in found.folder.iterdir()) == ["SKILL.md", "in.md", "run.sh"]
        assert (found.folder / "run.sh").stat().st_mode & 0o111
        assert not (found.folder / "SKILL.md").stat().st_mode & 0o111
        assert found.source.endswith("#r-main/skills/one")


async def test_a_hostile_tar_archive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = {"one/SKILL.md": FRONT.format("one")}
    archive = tmp_path / "r.tgz"
    for content, word in (
        (tarred({**good, "../../evil": "x"}), "unsafe"),
        (tarred({**good, "/etc/evil": "x"}), "unsafe"),
        (tarred(good, type=tarfile.GNUTYPE_LONGNAME, size=1 << 30), "none that skills have"),
        (tarred(good)[:-40], "no zip|cannot be unpacked|gzip"),
    ):
        archive.write_bytes(content)
        with pytest.raises(BadRequest, match=word):
            async with fetched(str(archive)):
                pass
    monkeypatch.setattr(install, "UNPACKED_BYTES", 4000)
    archive.write_bytes(tarred({**good, "one/big": "x" * 5000}))
    with pytest.raises(BadRequest, match="unpacks"):
        async with fetched(str(archive)):
            pass
    devices = tarred(good, type=tarfile.CHRTYPE, devmajor=1, devminor=3)
    archive.write_bytes(devices)
    async with fetched(str(archive)) as (found,):
        assert [item.name for item in found.folder.iterdir()] == ["SKILL.md"]


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


def skill_at(folder: Path, name: str, text: str = "") -> Path:
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text(text or FRONT.format(name))
    return folder


def collection(root: Path) -> Path:
    """Five skills: two good, one that only other clients read, one without description, one of a name twice."""
    skill_at(root / "skills/one", "one")
    skill_at(root / "skills/two", "two", f"---\nname: two\ndescription: Use when: {'x' * 1100}\n---\n")
    skill_at(root / "skills/mute", "mute", "---\nname: mute\n---\n")
    skill_at(root / "more/one", "one", FRONT.format("one") + "other\n")
    skill_at(root / "skills/three", "called-three")
    skill_at(root / "node_modules/never", "never")
    return root


async def test_one_bad_skill_keeps_no_other_from_being_installed(tmp_path: Path) -> None:
    fake = FakeDaemon()
    source = str(collection(tmp_path / "c"))
    async with fake.listening(tmp_path / "s") as socket:
        ended = await run(socket, "install", source, "--all")
        assert ended.exit_code == 4
        names = sorted(str(skill["name"]) for skill in fake.objects["skill"].values())
        assert names == ["called-three", "one", "two"]
        errors = [line for line in ended.stderr.splitlines() if line.startswith("error:")]
        assert errors == [
            "error: skills/mute: SKILL.md line 1, column 1: the required field 'description' is missing.",
            "error: skills/one: more/one has the name 'one' too.",
        ]
        assert ended.stderr.splitlines()[-1] == "3 installed, 2 not"
        ended = await run(socket, "install", source, "--all", "--json")
        assert [json.loads(line)["unchanged"] for line in ended.stdout.splitlines()] == [True] * 3
        assert [json.loads(line)["folder"] for line in ended.stderr.splitlines()] == ["skills/mute", "skills/one"]


async def test_skills_of_a_source_are_listed_and_chosen_by_name_or_folder(tmp_path: Path) -> None:
    fake = FakeDaemon()
    source = str(collection(tmp_path / "c"))
    async with fake.listening(tmp_path / "s") as socket:
        ended = await run(socket, "install", source, "--list")
        assert (ended.exit_code, fake.called("UploadSkill")) == (4, [])
        rows = [line.split()[:2] for line in ended.stdout.splitlines()]
        assert rows == [
            ["one", "more/one"], ["mute", "skills/mute"], ["one", "skills/one"], ["called-three", "skills/three"],
            ["two", "skills/two"],
        ]  # fmt: skip
        ended = await run(socket, "install", source, "--skill", "three", "-s", "more/one", "-s", "two")
        assert ended.exit_code == 0, ended.stderr
        names = sorted(str(skill["name"]) for skill in fake.objects["skill"].values())
        assert names == ["called-three", "one", "two"]
        for wrong, said in (("four", "holds no skill 'four'"), ("one", "'one' is the name of several skills.")):
            ended = await run(socket, "install", source, "--skill", wrong)
            assert ended.exit_code == 4
            assert said in ended.stderr


async def test_links_inside_the_source_are_followed_and_no_others(tmp_path: Path) -> None:
    root = tmp_path / "deck"
    skill_at(root / "shared/report", "report")
    (root / "shared/lib").mkdir()
    (root / "shared/lib/tool.py").write_text("print(1)\n")
    (root / "skills/one").mkdir(parents=True)
    (root / "skills/one/SKILL.md").symlink_to("../../shared/report/SKILL.md")
    (root / "skills/one/lib").symlink_to("../../shared/lib")
    (root / "plugins").mkdir()
    (root / "plugins/again").symlink_to("../shared/report")
    (root / "plugins/alias").mkdir()
    (root / "plugins/alias/SKILL.md").symlink_to("../../shared/report/SKILL.md")
    skill_at(root / ".client/skills/report", "report")
    skill_at(tmp_path / "outside", "outside")
    (root / "skills/out").symlink_to(tmp_path / "outside")
    skill_at(root / "skills/leak", "leak")
    (root / "skills/leak/secret").symlink_to("/etc/hostname")
    skill_at(root / "skills/round", "round")
    (root / "skills/round/up").symlink_to(".")
    async with fetched(str(root), every=True) as found:
        assert [skill.path for skill in found] == [
            "shared/report", "skills/leak", "skills/one", "skills/round", ".client/skills/report"
        ]  # fmt: skip
        _, leak, one, round_, _ = found
        tree = read_folder(one.folder, within=one.within).tree
        assert [entry.path for entry in tree.entries] == ["SKILL.md", "lib/tool.py"]
        assert b"print(1)" in b"".join(zip_stream(one.folder, tree))
        with pytest.raises(BundleError, match=r"leaves the skill's folder"):
            read_folder(one.folder)
        with pytest.raises(BundleError, match="'secret' is a link that leaves"):
            read_folder(leak.folder, within=leak.within)
        with pytest.raises(BundleError, match="'up' is a link to a folder that holds it"):
            read_folder(round_.folder, within=round_.within)


async def test_links_of_a_zip_stay_inside_it(tmp_path: Path) -> None:
    archive = tmp_path / "deck.zip"
    archive.write_bytes(
        zipped(
            {"d/shared/SKILL.md": FRONT.format("one"), "d/x/y/keep": "", "d/one/more": ""},
            {
                "d/one/SKILL.md": "../shared/SKILL.md",
                "d/abs": "/etc",
                "d/up": "../../..",
                "d/x/y/l": "../../x",
                "d/x/y/l/through": "keep",
                "d/x/m": "y/l/../../../../..",
            },
        )
    )
    async with fetched(str(archive), every=True) as found:
        assert [skill.path for skill in found] == ["d/one", "d/shared"]
        assert read_folder(found[0].folder, within=found[0].within).manifest.name == "one"
        links = {path.name for path in found[0].within.rglob("*") if path.is_symlink()}
        assert links <= {"SKILL.md", "l", "m"}
        assert all(path.resolve().is_relative_to(found[0].within.resolve()) for path in found[0].within.rglob("*"))


async def test_names_in_a_zip_that_is_installed_mean_what_they_were_meant_to(tmp_path: Path) -> None:
    archive = tmp_path / "deck.zip"
    utf8 = "one/größe.md".encode()
    archive.write_bytes(raw_zip({b"./one/SKILL.md": FRONT.format("one").encode(), utf8: b"", b"one\\a\\b": b""}))
    async with fetched(str(archive)) as (found,):
        tree = read_folder(found.folder).tree
        assert [entry.path for entry in tree.entries] == ["SKILL.md", "a/b", "größe.md"]
    archive.write_bytes(gzip.compress(b"x" * 1000))
    with pytest.raises(BadRequest, match=r"is a gzip file \(.tar.gz\)"):
        async with fetched(str(archive)):
            pass
    locked = bytearray(zipped({"one/SKILL.md": FRONT.format("one")}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.find(signature) + offset] |= 1
    archive.write_bytes(bytes(locked))
    with pytest.raises(BadRequest, match=r"'one/SKILL.md' in the zip is encrypted"):
        async with fetched(str(archive)):
            pass


async def run(socket: Path, *args: str) -> Result:
    """`skilldeck` against the daemon that listens there; in a thread, since that one answers in this one."""
    return await asyncio.to_thread(CliRunner().invoke, app, list(args), env={"SKILLDECK_SOCKET": str(socket)})


async def _install(client: Client, source: str) -> str:
    async with fetched(source) as (found,):
        done = await upload_folder(client, found.folder, source=found.source, origin="install")
    return str(done.skill["source"])
