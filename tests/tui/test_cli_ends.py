"""How a command ends where its result, or what it was given, cannot be written: with a sentence, never a traceback."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from skilldeck_shared.errors import BadRequest
from skilldeck_shared.terminal import clean
from skilldeck_tui.__main__ import main
from support.fake_daemon import FakeDaemon


@pytest.fixture
def fake() -> FakeDaemon:
    made = FakeDaemon()
    made.add_file("orders.csv", b"region,amount\n")
    return made


@pytest.fixture
async def socket(fake: FakeDaemon, tmp_path: Path) -> AsyncIterator[Path]:
    async with fake.listening(tmp_path / "s") as listening:
        yield listening


async def _ended(socket: Path, *args: str | bytes, stdout: str = os.devnull) -> tuple[int, str]:
    target = os.open(stdout, os.O_WRONLY)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "skilldeck_tui", "--socket", str(socket), *args, stdin=asyncio.subprocess.DEVNULL,
        stdout=target, stderr=asyncio.subprocess.PIPE, env={**os.environ, "SKILLDECK_DATA_DIR": str(socket.parent)},
    )  # fmt: skip
    os.close(target)
    _, errors = await process.communicate()
    return process.returncode or 0, errors.decode()


FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")


@FULL
@pytest.mark.parametrize("args", [["--help"], ["run", "hello"]])
async def test_a_result_that_cannot_be_written(socket: Path, args: list[str]) -> None:
    code, errors = await _ended(socket, *args, stdout="/dev/full")
    assert code == 1
    assert "The result cannot be written: No space left on device." in errors
    assert "Traceback" not in errors


COMMANDS = (
    "status", "status --json", "logs", "skills", "skills --json", "skills versions csv-summary",
    "skills show csv-summary", "skills show csv-summary SKILL.md", "skills diff csv-summary 1 2", "files",
    "files --json", "files get file_id", "containers", "containers files cntr", "models", "models --json",
    "rules", "lint {folder}", "lint {folder} --json", "--version",
    "skills --help", "run --help",
)  # fmt: skip


def _here(socket: Path, words: list[str]) -> object:
    """The exit code of the command, in this process: a tenth of what a process of its own takes."""
    with open("/dev/full", "w") as full, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        patch.setattr(sys, "argv", ["skilldeck", "--socket", str(socket), *words])
        with pytest.raises(SystemExit) as caught:
            main()
    return caught.value.code


@FULL
async def test_of_every_command_the_end_is_told(
    fake: FakeDaemon, socket: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    skill = fake.add_skill("csv-summary")
    fake.add_version(skill["id"], {"SKILL.md": b"---\nname: csv-summary\ndescription: Other.\n---\n"})
    (file,) = fake.objects["file"].values()
    ids = {"cntr": fake.add_container(files={"made.txt": b"x"})["id"], "file_id": file["id"]}
    fake.write_log("something happened")
    fake.rules["rule_1"] = {
        "id": "rule_1",
        "object": "rule",
        "kind": "shell",
        "prefix": "ls",
        "skills": [],
        "created_at": 1,
    }
    fake.put("model", {"id": "tiny", "object": "model", "engine": "llamacpp", "state": "ready"})
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "SKILL.md").write_text("---\nname: wrong\ndescription: x\n---\n")

    for line in COMMANDS:
        words = line.format(folder=folder).split()
        words = [ids.get(word, word) for word in words]
        code = await asyncio.to_thread(_here, socket, words)
        said = capsys.readouterr().err
        assert (code, said.count("\n")) == (1, 1), (line, said)
        assert "The result cannot be written: No space left on device." in said, line


async def test_a_file_whose_name_is_no_utf_8(socket: Path, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.csv"
    Path(os.fsdecode(path)).write_text("a\n")
    for args in (["run", "x", "--file", path], ["files", "upload", path]):
        code, errors = await _ended(socket, *args)
        assert code == 4, args
        assert "is no UTF-8" in errors
        assert "Traceback" not in errors


async def test_a_client_refuses_such_a_name(fake: FakeDaemon, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.csv"))
    path.write_text("a\n")
    async with fake.client() as client:
        with pytest.raises(BadRequest, match="is no UTF-8") as caught:
            await client.upload_file(path)
    assert caught.value.param == "file"
    assert clean(path.name) == ".csv"


async def test_a_model_that_is_not_here_is_not_found(socket: Path) -> None:
    for words in (["info", "nope"], ["rm", "nope"], ["rm", "tiny"]):
        code, errors = await _ended(socket, "models", *words)
        assert (code, errors.startswith("error:")) == (4, True), errors
