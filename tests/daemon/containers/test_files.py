"""Files in and out of /mnt/data, and the deletion of whatever a command left there."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from daemon.containers.support import needs_bwrap, sh, until
from skilldeck_daemon.containers import (
    ArtifactNotFound,
    ArtifactTooLarge,
    Container,
    Containers,
    ContainerSpec,
    InvalidContainerRequest,
    Mount,
    artifacts,
)
from skilldeck_daemon.containers.sandbox import bwrap
from skilldeck_daemon.skills.mounts import MountCache
from skilldeck_shared.skills.bundle import scan
from support.bundles import manifest, write_skill

SECRET = "host secret 4711"


# -- plain functions: no sandbox needed ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("report.csv", "report.csv"),
        ("a b ü.txt", "a b ü.txt"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\x.doc", "x.doc"),
        ("..", "file"),
        ("", "file"),
        ("dir/", "dir"),
        ("new\nline\x00.txt", "new_line_.txt"),
        (".hidden", ".hidden"),
        ("x" * 300 + ".csv", "x" * 251 + ".csv"),
        ("ü" * 200 + ".csv", "ü" * 125 + ".csv"),
    ],
)
def test_names_are_made_safe(name: str, expected: str) -> None:
    assert artifacts.safe_name(name) == expected
    assert len(artifacts.safe_name(name).encode()) <= 255


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/mnt/data", "/mnt/data/", "/mnt/data/../x", "/mnt/data/a/./b", "relative", "/mnt/dataX/y"]
)
def test_paths_outside_the_work_directory_do_not_exist(path: str) -> None:
    with pytest.raises(ArtifactNotFound):
        artifacts.components(path)


def hostile_deep(root: Path) -> None:
    fd = os.open(root, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(os.open("end", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)


def hostile_modes(root: Path) -> None:
    for name in ("a", "b"):
        inner = root / name / "inner" / "most"
        inner.mkdir(parents=True)
        (inner / "f").write_text("x")
        for folder in (inner, inner.parent, inner.parent.parent):
            folder.chmod(0)
    root.chmod(0)


def hostile_names(root: Path) -> None:
    for raw in (b"\xff\xfe", b"new\nline", b"-rf", b" ", b"x" * 255):
        (root / os.fsdecode(raw)).mkdir()
        (root / os.fsdecode(raw) / os.fsdecode(raw)).write_text("x")


def hostile_kinds(root: Path) -> None:
    (root / "link").symlink_to("/etc")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        here = os.getcwd()
        os.chdir(root)
        try:
            sock.bind("sock")
        finally:
            os.chdir(here)
    (root / "sub").mkdir()
    (root / "sub" / "up").symlink_to("..")


@pytest.mark.parametrize("build", [hostile_deep, hostile_modes, hostile_names, hostile_kinds])
def test_a_hostile_tree_is_deleted_and_nothing_else(tmp_path: Path, build: Callable[[Path], None]) -> None:
    (tmp_path / "outside").write_text(SECRET)
    tree = tmp_path / "tree"
    tree.mkdir()
    build(tree)
    artifacts.delete_tree(tree)
    assert [item.name for item in tmp_path.iterdir()] == ["outside"]


def test_deleting_what_is_gone_is_fine(tmp_path: Path) -> None:
    artifacts.delete_tree(tmp_path / "missing")


def test_swapping_a_file_for_a_link_never_leaks(tmp_path: Path) -> None:
    """A writer exchanges file and link, directory and link, as fast as it can; no read may follow either."""
    root = tmp_path / "data"
    (root / "dir").mkdir(parents=True)
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "f").write_text(SECRET)
    (root / "dir" / "f").write_text("harmless")
    (root / "spare").symlink_to(secret)
    (root / "file").write_text("harmless")
    (root / "spare-file").symlink_to(secret / "f")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for one, two in (("dir", "spare"), ("file", "spare-file")):
                os.rename(root / one, root / "tmp")
                os.rename(root / two, root / one)
                os.rename(root / "tmp", root / two)

    thread = threading.Thread(target=swap)
    thread.start()
    read = 0
    try:
        for _ in range(6_000):
            for path in ("/mnt/data/dir/f", "/mnt/data/file"):
                try:
                    data = artifacts.read(root, path, 1000)
                except ArtifactNotFound:
                    continue
                assert data == b"harmless"
                read += 1
    finally:
        stop.set()
        thread.join()
    assert read > 0


# -- through a container ---------------------------------------------------------------------------------


@needs_bwrap
async def test_a_file_put_in_is_usable_and_never_overwrites(container: Container, tmp_path: Path) -> None:
    source = tmp_path / "origin.bin"
    source.write_bytes(b"\x00\xff" * 1000)
    assert await container.put("data.csv", b"a,b\n") == "/mnt/data/data.csv"
    assert await container.put("data.csv", source) == "/mnt/data/data-2.csv"
    assert await container.put("../data.csv", b"third") == "/mnt/data/data-3.csv"
    result = await sh(container, "cat data.csv; wc -c < data-2.csv; echo more >> data.csv; mv data-3.csv z")
    assert result.stdout == "a,b\n2000\n"
    assert result.stderr == ""
    assert await container.read("/mnt/data/data.csv", 100) == b"a,b\nmore\n"


@needs_bwrap
async def test_a_missing_source_is_a_clear_error_and_leaves_nothing(container: Container, tmp_path: Path) -> None:
    with pytest.raises(InvalidContainerRequest, match="cannot be read"):
        await container.put("x", tmp_path / "missing")
    assert await container.entries() == []
    assert os.listdir(container.data_dir.parent / "staging") == []


@needs_bwrap
async def test_what_a_command_made_is_listed_and_read(container: Container) -> None:
    await sh(container, "mkdir -p out/deep; echo hi > out/deep/r.txt; chmod 755 out/deep/r.txt; echo top > a.txt")
    entries = await container.entries()
    assert [(e.path, e.bytes, e.mode) for e in entries] == [
        ("/mnt/data/a.txt", 4, 0o644),
        ("/mnt/data/out/deep/r.txt", 3, 0o755),
    ]
    assert entries[0].mtime_ns > 10**18
    file, size = await container.open_file("/mnt/data/out/deep/r.txt")
    with file:
        assert (file.read(), size) == (b"hi\n", 3)
    with pytest.raises(ArtifactTooLarge):
        await container.read("/mnt/data/a.txt", 3)
    await container.remove("/mnt/data/a.txt")
    with pytest.raises(ArtifactNotFound):
        await container.read("/mnt/data/a.txt", 100)


@needs_bwrap
@pytest.mark.parametrize(
    ("command", "path"),
    [
        ("ln -s /etc/hostname x", "x"),
        ("ln -s / x", "x/etc/hostname"),
        ("ln -s /proc/self/root x", "x/etc/hostname"),
        ("ln -s /proc/1/root/etc x", "x/hostname"),
        ("mkdir d; ln -s ../../../../etc d/x", "d/x/hostname"),
        ("mkfifo x", "x"),
        ("python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('x')\"", "x"),
        ("mkdir x", "x"),
        ("truncate -s 1900M x", "x"),
    ],
)
async def test_only_regular_small_files_come_out(container: Container, command: str, path: str) -> None:
    made = await sh(container, command)
    assert made.exit_code == 0, made.stderr
    with pytest.raises((ArtifactNotFound, ArtifactTooLarge)):
        await container.read(f"/mnt/data/{path}", 1_000_000)
    listed = [e.path for e in await container.entries()]
    assert listed == ([] if "truncate" not in command else ["/mnt/data/x"])
    assert (await sh(container, "echo next")).stdout == "next\n"


@needs_bwrap
async def test_odd_names_are_listed_or_skipped_and_always_deletable(container: Container) -> None:
    script = r"""
import os
open('new\nline', 'w').close()
open(b'\xff\xfe', 'w').close()
open('ünï', 'w').close()
os.mkdir('locked'); open('locked/f', 'w').close(); os.chmod('locked', 0)
for _ in range(150):
    os.mkdir('d'); os.chdir('d')
open('end', 'w').close()
"""
    await container.put("make.py", script.encode())
    assert (await sh(container, "python3 make.py")).stderr == ""
    paths = [e.path for e in await container.entries()]
    assert "/mnt/data/new\nline" in paths
    assert "/mnt/data/ünï" in paths
    assert not any("\udcff" in path or "end" in path for path in paths)
    home = container.data_dir.parent
    await container.close()
    assert not home.exists()


@needs_bwrap
async def test_a_locked_work_directory_is_opened_again(container: Container) -> None:
    await sh(container, "echo x > f; chmod 000 /mnt/data")
    assert await container.read("/mnt/data/f", 10) == b"x\n"
    await sh(container, "chmod 000 /mnt/data")
    assert await container.put("g", b"y") == "/mnt/data/g"
    await sh(container, "chmod 000 /mnt/data")
    assert container.init_pid is not None
    os.kill(container.init_pid, signal.SIGKILL)
    await until(lambda: not container.running)
    assert (await sh(container, "cat f g")).stdout == "x\ny"


COPIES = """
set -e
stat -c %a /mnt/skills/demo /mnt/skills/demo/assets /mnt/skills/demo/assets/t.md /mnt/skills/demo/run.sh | tr '\\n' ' '
cp /mnt/skills/demo/assets/t.md /mnt/data/ && echo filled >> /mnt/data/t.md
cp -r /mnt/skills/demo /mnt/data/tree && echo more >> /mnt/data/tree/assets/t.md && touch /mnt/data/tree/assets/new
/mnt/data/tree/run.sh
python3 -c 'import shutil; shutil.copytree("/mnt/skills/demo", "/mnt/data/python")'
echo more >> /mnt/data/python/assets/t.md
rm -r /mnt/data/tree && rm -r /mnt/data/python
! echo x 2>/dev/null >> /mnt/skills/demo/assets/t.md
! touch /mnt/skills/demo/assets/new 2>/dev/null
! chmod 0777 /mnt/skills/demo/run.sh 2>/dev/null
cat /mnt/data/t.md
"""


def test_files_of_packages_take_no_place_from_the_others(tmp_path: Path) -> None:
    for folder in ("a/node_modules/left-pad", "node_modules/x", "z/out"):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(5):
            (tmp_path / folder / f"{number}.js").write_text("x")
    (tmp_path / "z/out/report.md").write_text("x")
    assert len(artifacts.entries(tmp_path)) == 16
    few = [entry.path for entry in artifacts.entries(tmp_path, most=6)]
    assert few == [*(f"/mnt/data/z/out/{number}.js" for number in range(5)), "/mnt/data/z/out/report.md"]


@needs_bwrap
@pytest.mark.parametrize("reachable", [True, False], ids=["bound directly", "copied first"])
async def test_what_a_command_copies_out_of_a_skill_is_its_own_to_change(
    start_containers: Callable[..., Awaitable[Containers]], tmp_path: Path, reachable: bool
) -> None:
    source = write_skill(
        tmp_path / "demo",
        {"SKILL.md": manifest("demo"), "assets/t.md": b"template\n", "run.sh": b"#!/bin/sh\necho ran\n"},
    )
    tree = scan(source)
    blobs = {entry.sha256: source / entry.path for entry in tree.entries}
    with tempfile.TemporaryDirectory(dir=tmp_path if not reachable else "/tmp") as home:
        Path(home).chmod(0o755 if reachable else 0o700)
        mounted = await MountCache(Path(home) / "skills", blobs.__getitem__).path(tree.digest, tree.entries)
        containers = await start_containers(ways=(Path(home) / "skills",))  # as the daemon opens its own
        uid = bwrap.find_tools().uid
        if reachable and uid != os.geteuid():  # as the daemon does with the folder it keeps them in
            bwrap.open_way(Path(home) / "skills", uid)
        # What the owner alone may enter, the containers of an ordinary user may: they have his uid.
        assert bwrap.tree_readable(mounted, uid) == (reachable or uid == os.geteuid())
        container = await containers.create(ContainerSpec("cntr_copies", mounts=(Mount("demo", mounted),)))
        result = await sh(container, COPIES)
        assert (result.exit_code, result.stdout) == (0, "755 755 644 755 ran\ntemplate\nfilled\n"), result
        await containers.delete("cntr_copies")
