"""`skilldeckd serve` as a process: it says where it listens, answers, survives kill -9, stops when told."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from skilldeck_daemon.containers.homes import base_for
from support.daemon import SHELL
from support.programs import serving
from support.scripted_model import Endless, ScriptedModel, Turn, shell


def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key="none", max_retries=20)  # 503 while the model loads is retried


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    shutil.rmtree(base_for(tmp_path / "data" / "containers"), ignore_errors=True)  # root's daemons keep them elsewhere


def test_a_run_in_a_container_and_a_clean_stop(home: Path) -> None:
    with ScriptedModel(Turn(shell("echo $((6*7))")), Turn("It is 42.")) as model:
        with serving(home, "--engine", "remote", "--remote-url", model.url) as (process, url):
            with client(url) as sdk:
                response = sdk.responses.create(model="default", input="6*7?", tools=[SHELL])  # type: ignore[list-item]
                assert response.output_text == "It is 42."
                for container in sdk.containers.list().data:
                    sdk.containers.delete(container.id)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        assert not (home / "s").exists()


def test_what_was_acknowledged_survives_kill_9_and_an_interrupted_run_is_marked(home: Path) -> None:
    with ScriptedModel(Turn("kept"), Turn("on ", Endless())) as model:
        flags = ("--engine", "remote", "--remote-url", model.url)
        with serving(home, *flags) as (process, url), client(url) as sdk:
            whole = sdk.responses.create(model="default", input="x")
            file = sdk.files.create(file=("a.txt", b"content"), purpose="user_data")
            skill = sdk.skills.create(files=[("a/SKILL.md", b"---\nname: a\ndescription: d\n---\n")])
            running = sdk.responses.create(model="default", input="y", background=True)
            model.wait(lambda model: len(model.requests) == 2)
            process.kill()
            process.wait(30)
        with serving(home, *flags) as (_, url), client(url) as sdk:
            assert sdk.responses.retrieve(whole.id) == whole
            assert sdk.files.content(file.id).content == b"content"
            assert sdk.skills.retrieve(skill.id) == skill
            interrupted = sdk.responses.retrieve(running.id)
            assert (interrupted.status, interrupted.error is not None) == ("failed", True)


def test_a_second_daemon_on_the_same_data_is_refused_with_the_fix(home: Path) -> None:
    with serving(home, "--model", "") as (process, _):
        command = [sys.executable, "-m", "skilldeck_daemon", "serve", "--port", "0", "--model", ""]
        command += ["--data-dir", str(home / "data"), "--socket", str(home / "other")]
        second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode == 1
        assert f"pid {process.pid}" in second.stderr
        assert "--data-dir" in second.stderr
        assert second.stdout == ""


def test_a_port_in_use_is_refused_with_the_fix(home: Path) -> None:
    with serving(home, "--model", "") as (_, url):
        port = url.split(":")[2].split("/")[0]
        command = [sys.executable, "-m", "skilldeck_daemon", "serve", "--port", port, "--model", ""]
        command += ["--data-dir", str(home / "d2"), "--socket", str(home / "s2")]
        second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (second.returncode, f"127.0.0.1:{port}" in second.stderr) == (1, True)


def test_wrong_settings_end_with_one_line_and_a_fix() -> None:
    for flags, word in (
        (["--host", "0.0.0.0"], "--api-key"),
        (["--engine-options", "{"], "JSON"),
        (["--port", "-1"], "port"),
    ):
        command = [sys.executable, "-m", "skilldeck_daemon", "serve", *flags]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert word in done.stderr
        assert "Traceback" not in done.stderr
