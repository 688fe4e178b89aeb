"""What is made for its owner stays with its owner, whatever the umask is and whatever was there before."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from skilldeck_shared import private
from skilldeck_shared.private import OpenToOthers


@pytest.fixture(autouse=True)
def generous_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folders_and_files_are_made_closed(tmp_path: Path) -> None:
    private.folder(tmp_path / "a" / "b")
    private.file(tmp_path / "a" / "b" / "c")
    private.write(tmp_path / "a" / "b" / "d", b"secret")
    assert [mode(tmp_path / name) for name in ("a/b", "a/b/c", "a/b/d")] == [0o700, 0o600, 0o600]
    assert mode(tmp_path / "a") == 0o777, "what is only on the way is not ours"
    with pytest.raises(FileExistsError):
        private.write(tmp_path / "a" / "b" / "d", b"other")


def test_what_an_earlier_version_left_open_is_closed(tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "blobs").mkdir(parents=True)
    (root / "skilldeck.db-wal").write_text("")
    (root / "run.sh").touch(mode=0o755)
    private.close_tree(root, ("blobs", "skilldeck.db*", "run.sh"))
    found = [mode(place) for place in (root, root / "blobs", root / "skilldeck.db-wal", root / "run.sh")]
    assert found == [0o700, 0o700, 0o600, 0o700]


def test_a_folder_with_other_things_in_it_keeps_its_mode(tmp_path: Path) -> None:
    root = tmp_path / "srv"
    (root / "blobs").mkdir(parents=True)
    (root / "www").mkdir()
    private.close_tree(root, ("blobs",))
    assert [mode(place) for place in (root, root / "blobs", root / "www")] == [0o777, 0o700, 0o777]


def test_what_a_link_leads_to_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "models")
    private.close(tmp_path / "link")
    assert mode(tmp_path / "models") == 0o777


@pytest.mark.parametrize("bits", [0o777, 0o1777, 0o770, 0o702])
def test_a_socket_where_others_can_write_is_refused(tmp_path: Path, bits: int) -> None:
    place = tmp_path / "run"
    place.mkdir()
    place.chmod(bits)
    with pytest.raises(OpenToOthers, match="Others can write") as caught:
        private.check_socket_folder(place / "daemon.sock")
    assert str(place) in caught.value.hint


def test_a_socket_below_a_folder_that_others_can_write_is_refused_unless_it_is_sticky(tmp_path: Path) -> None:
    place = tmp_path / "shared" / "mine"
    place.mkdir(parents=True, mode=0o700)
    place.parent.chmod(0o777)
    with pytest.raises(OpenToOthers, match="Others can write"):
        private.check_socket_folder(place / "daemon.sock")
    place.parent.chmod(0o1777)
    private.check_socket_folder(place / "daemon.sock")
    private.check_socket_folder(place / "not" / "there" / "yet" / "daemon.sock")


def test_a_socket_behind_a_link_is_refused_and_the_folder_named(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(OpenToOthers, match="link") as caught:
        private.check_socket_folder(tmp_path / "link" / "daemon.sock")
    assert str(tmp_path / "real") in caught.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a link to another user")
def test_a_link_of_another_user_further_up_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real" / "run").mkdir(parents=True, mode=0o700)
    (tmp_path / "real").chmod(0o700)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real")
    private.check_socket_folder(link / "run" / "daemon.sock")
    os.chown(link, 61_234, 61_234, follow_symlinks=False)
    with pytest.raises(OpenToOthers, match="behind the link"):
        private.check_socket_folder(link / "run" / "daemon.sock")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_socket_in_another_users_folder_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "theirs"
    place.mkdir(mode=0o700)
    os.chown(place, 61_234, 61_234)
    with pytest.raises(OpenToOthers, match="another user"):
        private.check_socket_folder(place / "daemon.sock")
