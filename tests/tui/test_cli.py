"""The command line as a program: what goes to stdout and stderr, exit codes, and what a daemon is asked for."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from skilldeck_shared.errors import SkilldeckError, Unavailable
from skilldeck_tui.cli.main import app
from skilldeck_tui.cli.running.run import TextPrinter
from skilldeck_tui.client.types import RunEvent
from support.fake_daemon import FakeDaemon
from support.fake_run import FakeRun
from support.wait import until

FRONT = "---\nname: counter\ndescription: Counts things.\n---\n# Steps\n"


@dataclass
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


class Shell:
    """Runs `skilldeck` against the fake daemon's socket: in this process, or in one of its own where that matters."""

    def __init__(self, socket: Path, home: Path) -> None:
        self.socket = socket
        self.env: dict[str, str | None] = {
            **{name: None for name in os.environ if name.startswith(("SKILLDECK_", "XDG_"))},
            "SKILLDECK_SOCKET": str(socket),
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
        }

    async def __call__(self, *args: str, stdin: bytes | None = None) -> Ended:
        # In a thread, because the fake daemon answers in this one.
        result = await asyncio.to_thread(CliRunner().invoke, app, list(args), input=stdin, env=self.env)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ended(result.exit_code, result.stdout, result.stderr)

    async def start(self, *args: str, code: str = "from skilldeck_tui.__main__ import main; main()") -> Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-c", f"import sys; sys.argv[0] = 'skilldeck'; {code}", *args,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={name: value for name, value in {**os.environ, **self.env}.items() if value is not None},
        )  # fmt: skip


@pytest.fixture
def fake() -> FakeDaemon:
    return FakeDaemon()


@pytest.fixture
async def sh(fake: FakeDaemon, tmp_path: Path) -> AsyncIterator[Shell]:
    async with fake.listening(tmp_path / "s") as socket:
        yield Shell(socket, tmp_path)


@pytest.fixture
def skill(tmp_path: Path) -> Path:
    folder = tmp_path / "counter"
    (folder / "evals").mkdir(parents=True)
    (folder / "samples").mkdir()
    (folder / "SKILL.md").write_text(FRONT)
    (folder / "samples/a.csv").write_text("x\n1\n")
    return folder


async def count(run: FakeRun) -> None:
    """A model that uses the shell and answers."""
    run.text("Counting. ")
    call = run.shell(["wc -l a.csv"])
    call.output(stdout="2 a.csv\n")
    call.output(stderr="warning: odd\n")
    call.exit([0])
    run.text("It has 2 lines.")
    run.complete()


async def test_run_prints_the_answer_on_stdout_and_the_work_on_stderr(fake: FakeDaemon, sh: Shell) -> None:
    fake.on_run = count
    ended = await sh("run", "count the lines")
    assert ended.code == 0
    assert ended.out == "Counting. \nIt has 2 lines.\n"
    assert [line for line in ended.err.splitlines() if "·" not in line] == [
        "$ wc -l a.csv", "2 a.csv", "warning: odd"
    ]  # fmt: skip
    assert "✓ 0 · " in ended.err


def test_each_command_of_a_call_ends_behind_its_output_with_its_own_time(capsys: pytest.CaptureFixture[str]) -> None:
    exits = [{"outcome": {"type": "exit", "exit_code": code}} for code in (0, 1)]
    where = {"output_index": 1}
    item = {"type": "shell_call_output", "output": exits}
    written = "response.shell_call_output_content"
    printer = TextPrinter()
    for at, type, data in (
        (10.0, "response.output_item.added", {"item": item}),
        (11.0, f"{written}.delta", {"command_index": 0, "delta": {"stdout": "one\n"}}),
        (12.0, f"{written}.done", {"command_index": 0, "output": exits[:1]}),
        (12.2, f"{written}.delta", {"command_index": 1, "delta": {"stdout": "two\n"}}),
        (12.5, f"{written}.done", {"command_index": 1, "output": exits[1:]}),
        (13.0, "response.output_item.done", {"item": item}),
    ):
        printer.show(RunEvent("resp_1", 0, type, {**where, **data}, at))
    assert capsys.readouterr().err.splitlines() == ["one", "✓ 0 · 2.0s", "two", "✗ 1 · 0.5s"]


async def test_run_with_json_prints_every_event_as_http_streams_it(fake: FakeDaemon, sh: Shell) -> None:
    fake.on_run = count
    ended = await sh("run", "count", "--json")
    assert ended.code == 0
    assert [event["sequence_number"] for event in ended.lines] == list(range(len(ended.lines)))
    assert ended.lines[-1]["type"] == "response.completed"
    assert ended.err == ""


async def test_run_uploads_its_skill_and_files_and_refers_to_them(fake: FakeDaemon, sh: Shell, skill: Path) -> None:
    fake.add_skill("other")
    ended = await sh(
        "run", "count", "--skill", str(skill), "--skill", "other@1", "--file", str(skill / "samples/a.csv"),
        "--model", "skilldeck-tiny", "--permission", "ask", "--instructions", "Be brief.",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    (started,) = fake.called("StartRun")
    request = json.loads(started.request_json)
    ids = {s["name"]: s["id"] for s in fake.objects["skill"].values()}
    assert request["tools"][0]["environment"] == {
        "type": "container_auto",
        "skills": [
            {"type": "skill_reference", "skill_id": ids["counter"], "version": "1"},
            {"type": "skill_reference", "skill_id": ids["other"], "version": "1"},
        ],
    }
    assert request["input"][0]["content"][1] == {"type": "input_file", "file_id": next(iter(fake.file_data))}
    assert (request["model"], request["instructions"]) == ("skilldeck-tiny", "Be brief.")
    assert started.permission == "ask"


async def test_run_reads_its_prompt_from_stdin(fake: FakeDaemon, sh: Shell) -> None:
    ended = await sh("run", "-", stdin=b"hello from a pipe")
    assert ended.out == "Echo: hello from a pipe\n"


async def test_a_run_that_fails_says_why_and_exits_with_1(fake: FakeDaemon, sh: Shell) -> None:
    async def failing(run: FakeRun) -> None:
        run.fail("the engine died")

    fake.on_run = failing
    ended = await sh("run", "x")
    assert (ended.code, ended.out) == (1, "")
    assert "the run ended as failed: the engine died" in ended.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupt_cancels_the_run_and_exits_with_130(
    fake: FakeDaemon, sh: Shell, number: signal.Signals
) -> None:
    begun = asyncio.Event()

    async def endless(run: FakeRun) -> None:
        run.begin_text().delta("thinking ")
        begun.set()

    fake.on_run = endless
    process = await sh.start("run", "x")
    await begun.wait()
    assert process.stdout is not None
    assert await process.stdout.read(8) == b"thinking"
    process.send_signal(number)
    await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 130
    assert len(fake.called("CancelRun")) == 1


async def test_a_run_that_asks_without_a_terminal_says_where_to_answer(fake: FakeDaemon, sh: Shell) -> None:
    async def asking(run: FakeRun) -> None:
        fake.add_approval(run, ["rm -r out"])

    fake.on_run = asking
    process = await sh.start("run", "x")
    assert process.stderr is not None
    assert b"waiting for an approval" in await process.stderr.readline()
    assert b"$ rm -r out" in await process.stderr.readline()
    next(iter(fake.live.values())).complete()
    assert await process.wait() == 0


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["run"], 2, "prompt"),
        (["run", "x", "--permission", "maybe"], 2, "auto, ask or deny"),
        (["run", "x", "--container", "c", "--skill", "s"], 2, "--container"),
        (["run", ""], 4, "empty"),
        (["run", "x", "--skill", "unknown"], 4, "no skill 'unknown'"),
        (["run", "x", "--skill", "./nowhere"], 4, "no folder with a SKILL.md"),
        (["run", "x", "--file", "/nonexistent"], 4, "cannot be read"),
        (["upload", "/nonexistent"], 4, "is not a folder"),
        (["skills", "versions", "unknown"], 4, "no skill 'unknown'"),
        (["files", "get", "file_x"], 4, "file_x"),
        (["logs", "--level", "loud"], 2, "must be one of"),
        (["nonsense"], 2, "nonsense"),
        (["--mode", "music"], 2, "chat, skills, files, daemon"),
        (["--size", "huge"], 2, "120x40"),
    ],
)
async def test_wrong_usage_and_wrong_input_have_their_exit_codes(
    sh: Shell, args: list[str], code: int, says: str
) -> None:
    ended = await sh(*args)
    assert ended.code == code, ended.err
    assert says in ended.err
    assert ended.out == ""


@pytest.mark.parametrize("args", [["status"], ["skills"], ["logs"], ["stop"], ["files", "--json"], ["models"]])
async def test_without_a_daemon_every_look_exits_with_3(tmp_path: Path, args: list[str]) -> None:
    ended = await Shell(tmp_path / "none", tmp_path)(*args)
    assert ended.code == 3
    assert "No daemon listens" in ended.err


async def test_an_error_with_json_is_one_json_line_on_stderr(sh: Shell, skill: Path) -> None:
    (skill / "SKILL.md").write_text("---\nname: counter\ndescription: [x\n---\n")
    ended = await sh("upload", str(skill), "--json")
    assert ended.code == 4
    error = json.loads(ended.err)
    assert set(error["error"]) == {"message", "type", "param", "code"}
    assert error["line"] >= 2
    assert ended.out == ""


async def test_a_failure_of_the_daemon_exits_with_5(fake: FakeDaemon, sh: Shell) -> None:
    fake.fail["ListSkills"] = SkilldeckError("The daemon failed inside.")
    assert (await sh("skills")).code == 5
    fake.fail["ListSkills"] = Unavailable("The store is locked.")
    assert (await sh("skills")).code == 5


async def test_upload_says_what_it_made_and_that_nothing_changed(fake: FakeDaemon, sh: Shell, skill: Path) -> None:
    assert (await sh("upload", str(skill))).out.startswith("counter v1 uploaded (skill_")
    assert " v1 unchanged " in (await sh("upload", str(skill))).out
    (skill / "new.txt").write_text("x")
    ended = await sh("upload", str(skill), "--default", "--json")
    assert ended.json["version"]["version"] == "2"
    assert ended.json["skill"]["default_version"] == "2"


async def test_upload_says_which_secrets_it_left_behind(fake: FakeDaemon, sh: Shell, skill: Path) -> None:
    (skill / ".env").write_text("KEY=secret")
    (skill / "node_modules/x").mkdir(parents=True)
    (skill / "node_modules/x/index.js").write_text("x")
    ended = await sh("upload", str(skill))
    assert ended.code == 0
    assert ".env was left out: it may hold secrets." in ended.err
    assert {path for files in fake.contents.values() for path in files} == {"SKILL.md", "samples/a.csv"}


async def test_upload_takes_the_good_and_lists_the_bad(
    fake: FakeDaemon, sh: Shell, skill: Path, tmp_path: Path
) -> None:
    (tmp_path / "mute").mkdir()
    (tmp_path / "mute/SKILL.md").write_text("---\nname: mute\n---\n")
    (tmp_path / "long").mkdir()
    (tmp_path / "long/SKILL.md").write_text(f"---\nname: long\ndescription: {'x' * 1068}\n---\n")
    ended = await sh("upload", str(tmp_path / "mute"), str(skill), str(tmp_path / "none"), str(tmp_path / "long"))
    assert ended.code == 4
    assert [line.split()[0] for line in ended.out.splitlines()] == ["counter", "long"]
    assert f"error: {tmp_path}/mute: SKILL.md line 1, column 1: the required field 'description'" in ended.err
    assert f"error: {tmp_path}/none: '{tmp_path}/none' is not a folder." in ended.err
    assert ended.err.splitlines()[-1] == "2 uploaded, 2 not"


async def test_skills_can_be_listed_shown_compared_promoted_and_deleted(fake: FakeDaemon, sh: Shell) -> None:
    made = fake.add_skill("counter", {"run.py": b"print(1)\n"})
    skill_md = fake.contents[made["id"], "1"]["SKILL.md"]
    fake.add_version(made["id"], {"SKILL.md": skill_md, "run.py": b"print(2)\n", "logo.png": b"\x89PNG\xff"})
    assert [s["name"] for s in (await sh("skills", "--json")).json] == ["counter"]
    assert [v["version"] for v in (await sh("skills", "versions", "counter", "--json")).json] == ["2", "1"]
    assert (await sh("skills", "show", "counter@2", "run.py")).out == "print(2)\n"
    assert "run.py" in (await sh("skills", "show", "counter")).out
    diff = await sh("skills", "diff", "counter", "1", "2")
    assert diff.code == 1
    assert "-print(1)\n+print(2)" in diff.out
    assert "logo.png: binary or large file added" in diff.out
    assert (await sh("skills", "diff", "counter", "1", "1")).code == 0
    assert (await sh("skills", "promote", "counter", "2")).out == "counter serves v2\n"
    assert (await sh("skills", "delete", "counter@2")).code == 4
    assert (await sh("skills", "delete", "counter@1")).out == "counter v1 deleted\n"
    assert (await sh("skills", "delete", "counter")).out == "counter deleted\n"
    assert (await sh("skills", "--json")).json == []


async def test_watch_tells_each_version_as_a_json_line_until_it_is_interrupted(
    fake: FakeDaemon, sh: Shell, skill: Path
) -> None:
    process = await sh.start("watch", str(skill), "--json")
    assert process.stdout is not None

    async def reach(version: str) -> dict[str, Any]:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            state: dict[str, Any] = json.loads(line)
            if state["state"] == "current" and state["version"] == version:
                return state
        raise AssertionError("the watch ended")

    assert (await asyncio.wait_for(reach("1"), 30))["made"]
    (skill / "new.txt").write_text("x")
    assert (await asyncio.wait_for(reach("2"), 30))["name"] == "counter"
    process.send_signal(signal.SIGINT)
    await process.communicate()
    assert process.returncode == 130


async def test_models_on_disk_are_those_of_the_daemon_that_runs(fake: FakeDaemon, sh: Shell, tmp_path: Path) -> None:
    fake.status = {**fake.status, "data_dir": str(tmp_path / "daemon")}
    folder = tmp_path / "daemon/models/org--small"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / ".skilldeck-model.json").write_text('{"id": "org/small", "revision": "abc"}')
    sh.env["HF_ENDPOINT"] = "http://127.0.0.1:9"

    async def models(*words: str) -> tuple[int | None, str, str]:
        process = await sh.start("models", *words)
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()

    listed, pulled = await asyncio.gather(models("ls", "--json"), models("pull", "org/other"))
    code, out, err = listed
    assert (code, [model["id"] for model in json.loads(out)]) == (0, ["skilldeck-tiny", "org/small"]), err
    code, out, err = pulled
    assert (code, out) == (1, "")
    assert "the hub cannot be reached" in err


async def test_status_logs_models_containers_and_files_are_json_too(
    fake: FakeDaemon, sh: Shell, tmp_path: Path
) -> None:
    fake.write_log("started")
    container = fake.add_container(files={"out.txt": b"data"})
    assert (await sh("status", "--json")).json["counts"]["containers"] == 1
    assert "skilldeck-tiny on llamacpp" in (await sh("status")).out
    assert (await sh("logs", "--json")).lines[0]["message"] == "started"
    assert [m["id"] for m in (await sh("models", "--json")).json] == ["skilldeck-tiny"]
    assert (await sh("models", "load", "/somewhere/small")).out == "small is loaded\n"
    assert (await sh("models", "unload", "small")).code == 0
    assert "/mnt/data/out.txt" in (await sh("containers", "files", container["id"])).out
    (tmp_path / "a.bin").write_bytes(b"\x00\xff" * 1000)
    stored = (await sh("files", "upload", str(tmp_path / "a.bin"), "--json")).json
    assert (await sh("files", "get", stored["id"], "-o", str(tmp_path / "b.bin"))).code == 0
    assert (tmp_path / "b.bin").read_bytes() == (tmp_path / "a.bin").read_bytes()
    assert (await sh("files", "delete", stored["id"])).code == 0
    assert (await sh("files", "--json")).json == []


async def test_logs_end_quietly_when_their_reader_has_enough(fake: FakeDaemon, sh: Shell) -> None:
    for number in range(5000):
        fake.write_log(f"line {number} " + "x" * 100)
    process = await sh.start("logs", "-n", "5000")
    assert process.stdout is not None
    await process.stdout.readline()
    process.stdout._transport.close()  # type: ignore[attr-defined]
    assert process.stderr is not None
    assert b"Traceback" not in await process.stderr.read()
    await process.wait()


async def test_stop_waits_until_nobody_listens(fake: FakeDaemon, tmp_path: Path) -> None:
    async with fake.listening(tmp_path / "s") as socket:
        stopping = asyncio.create_task(Shell(socket, tmp_path)("stop", "--json"))
        await until(fake.stopped.is_set)
        assert not stopping.done()
    assert (await stopping).json["stopped"]


EVALS = """
- name: counts
  prompt: Count a.csv.
  files: [samples/a.csv]
  expect:
    commands: ['^wc -l']
    exit_codes: [0]
    answer: ['2 lines']
- name: wishes
  prompt: Count it differently.
  expect:
    commands: ['^awk ']
    answer: ['3 lines']
"""


async def test_skill_tests_report_each_case_and_fail_with_1(
    fake: FakeDaemon, sh: Shell, skill: Path, tmp_path: Path
) -> None:
    (skill / "evals/basic.yaml").write_text(EVALS)
    fake.on_run = count
    ended = await sh("test", str(skill), "--junit", str(tmp_path / "reports/junit.xml"))
    assert ended.code == 1
    lines = ended.out.splitlines()
    assert lines[0].startswith("PASS counter: counts (")
    assert lines[1].startswith("FAIL counter: wishes (")
    assert "no command matches '^awk ' (commands: wc -l a.csv)" in lines[2]
    assert "1 passed, 1 failed" in ended.err
    suite = ElementTree.parse(tmp_path / "reports/junit.xml").getroot()[0]
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == ("counter", "2", "1")
    assert [case.get("name") for case in suite if case.find("failure") is not None] == ["wishes"]
    only = await sh("test", str(skill), "--only", "count", "--json")
    assert only.code == 0
    assert only.lines[0]["commands"] == [{"command": "wc -l a.csv", "exit_code": 0}]


async def test_broken_skill_tests_are_refused_before_anything_runs(fake: FakeDaemon, sh: Shell, skill: Path) -> None:
    (skill / "evals/basic.yaml").write_text("- prompt: x\n  expct: {}\n")
    ended = await sh("test", str(skill))
    assert ended.code == 4
    assert "unknown field 'expct'" in ended.err
    assert fake.calls == []


async def test_what_a_model_writes_cannot_steer_a_pipe_but_reaches_it_unchanged(fake: FakeDaemon, sh: Shell) -> None:
    async def nasty(run: FakeRun) -> None:
        run.text("a\x1b[2Jb", pieces=1)
        run.complete()

    fake.on_run = nasty
    assert (await sh("run", "x")).out == "a\x1b[2Jb\n"


async def test_a_picture_of_any_mode_is_taken_without_a_terminal(fake: FakeDaemon, sh: Shell, tmp_path: Path) -> None:
    fake.add_file("orders.csv", b"region,amount\n")
    picture = tmp_path / "files.svg"
    ended = await sh("--screenshot", str(picture), "--mode", "files", "--size", "90x20")
    assert ended.code == 0, ended.err
    assert "orders.csv" in picture.read_text()
    ended = await sh("--screenshot", str(tmp_path / "no" / "folder.svg"))
    assert (ended.code, "cannot be written" in ended.err) == (5, True)


async def test_help_names_the_exit_codes_and_completion_can_be_installed(sh: Shell) -> None:
    ended = await sh("--help")
    assert "Exit codes: 0 done" in ended.out
    assert "--install-completion" in ended.out
    assert (await sh("--version")).out.strip().count(".") == 2


async def test_names_complete_from_the_daemon_and_quietly_fail_without_one(
    fake: FakeDaemon, sh: Shell, tmp_path: Path
) -> None:
    fake.add_skill("csv-summary")
    fake.add_skill("counter")
    complete = {"_SKILLDECK_COMPLETE": "complete_bash", "COMP_WORDS": "skilldeck skills show cs", "COMP_CWORD": "3"}
    nowhere = Shell(tmp_path / "none", tmp_path)
    said = []
    for shell in (sh, nowhere):
        shell.env |= complete
        process = await shell.start()
        said.append((await process.communicate())[0].decode().split())
    assert said == [["csv-summary"], []]


async def test_commands_load_neither_textual_nor_the_daemon(sh: Shell) -> None:
    code = (
        "from skilldeck_tui import cli; "
        "print([n for n in ('textual', 'torch', 'starlette', 'skilldeck_daemon', 'aiohttp') if n in sys.modules])"
    )
    process = await sh.start(code=code)
    out, _ = await process.communicate()
    assert out == b"[]\n"


async def make(run: FakeRun) -> None:
    """A model that makes two files and names them."""
    run.shell(["make"]).exit([0])
    message = run.begin_text()
    message.delta("Made report.md.")
    for id in ("cfile_1", "cfile_2", "cfile_1"):
        message.part["annotations"].append(
            {
                "type": "container_file_citation", "container_id": "cntr_1", "file_id": id,
                "filename": "x", "start_index": 0, "end_index": 0,
            }
        )  # fmt: skip
    message.finish()
    run.complete()


def has_made(fake: FakeDaemon) -> None:
    fake.on_run = make
    fake.put("container", {"id": "cntr_1", "object": "container"})
    fake.container_files["cntr_1"] = {
        id: ({"id": id, "path": path, "bytes": len(content)}, content)
        for id, path, content in (
            ("cfile_1", "/mnt/data/report.md", b"# Report\n"), ("cfile_2", "/mnt/data/out/a.csv", b"1\n"),
        )
    }  # fmt: skip


async def test_run_lists_what_it_made(fake: FakeDaemon, sh: Shell) -> None:
    has_made(fake)
    ended = await sh("run", "report")
    assert ended.code == 0
    assert ended.out == "Made report.md.\n"
    assert ended.err.splitlines()[-2:] == ["made report.md · 9 B", "made out/a.csv · 2 B"]


async def test_run_saves_what_it_made_and_overwrites_nothing(fake: FakeDaemon, sh: Shell, tmp_path: Path) -> None:
    has_made(fake)
    folder = tmp_path / "new/results"
    for _ in range(2):  # the same bytes are not saved twice
        ended = await sh("run", "report", "--save", str(folder))
        assert ended.code == 0
        assert ended.err.splitlines()[-2:] == [f"saved {folder}/report.md", f"saved {folder}/out/a.csv"]
    assert {str(path.relative_to(folder)) for path in folder.rglob("*")} == {"report.md", "out", "out/a.csv"}
    (folder / "report.md").write_text("mine")
    (folder / "out/a.csv").unlink()
    (folder / "out").rmdir()
    (folder / "out").symlink_to(tmp_path)
    ended = await sh("run", "report", "--save", str(folder), "--json")
    assert ended.code == 1
    assert ended.lines[-1]["type"] == "response.completed"
    assert "out/a.csv was not saved: a link on its way leaves the folder." in ended.err
    assert (folder / "report.md").read_text() == "mine"
    assert (folder / "report-2.md").read_bytes() == b"# Report\n"
    assert not (tmp_path / "a.csv").exists()
    ended = await sh("run", "report", "--save", str(folder / "report.md/x"))
    assert ended.code == 4
    assert "cannot be saved to" in ended.err
