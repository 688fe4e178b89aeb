"""pip, uv and npm in commands: from the index that a request allows, and what is said where it allows none."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from daemon.containers.support import needs_bwrap, sh
from skilldeck_daemon.containers import Container, Containers, ContainerSpec, NetworkPolicy, artifacts
from skilldeck_daemon.containers.network.indexes import NPM, PYPI, Indexes
from skilldeck_daemon.containers.network.reach import Reach
from skilldeck_daemon.containers.packages import base_build, programs
from skilldeck_daemon.containers.packages.environment_build import EnvironmentBuilder
from skilldeck_daemon.containers.sandbox import bwrap
from skilldeck_daemon.containers.spec import Environment
from support.index import Index, index
from support.wheels import wheel

Start = Callable[..., Awaitable[Containers]]
UID = bwrap.SANDBOX_UID if os.geteuid() == 0 else os.geteuid()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Index]:
    with index(tmp_path / "wheels") as server:
        yield server


async def box_of(start: Start, served: Index, tmp_path: Path, *allowed: str) -> Container:
    """A container with uv, that reaches the index when it is among `allowed`."""
    containers = await start(indexes=Indexes(served.python, served.npm), allow_private_hosts=["127.0.0.1"])
    tools = EnvironmentBuilder(containers, tmp_path / "data")._tools()
    made = tools.source.parent / "made"  # with packages for Node, as most have
    (made / "node/node_modules/of-the-sandbox").mkdir(parents=True)
    layer = Environment("0" * 64, made, node=("of-the-sandbox",))
    spec = ContainerSpec("box", network=NetworkPolicy(allowed), binds=(tools,), environments=(layer,))
    return await containers.create(spec)


def gone(tmp_path: Path) -> None:
    artifacts.delete_tree(base_build.place_for(tmp_path / "data", UID))


# The index of these tests is on this machine, which is reached without a proxy unless these are unset.
BY_PROXY = "unset no_proxy NO_PROXY; PATH=$PATH:/run/tools; "


@needs_bwrap
async def test_an_allowed_index_is_the_one_that_is_asked(
    start_containers: Start, served: Index, tmp_path: Path
) -> None:
    wheel(served.folder, "charts", script="draw-charts")
    wheel(served.folder, "tables", script="draw-tables")
    try:
        box = await box_of(start_containers, served, tmp_path, f"127.0.0.1:{served.server_port}")
        for command in (
            "pip install charts && draw-charts && python3 -c 'import charts'",
            "uv pip install --system tables && draw-tables && python3 -c 'import tables'",
            "uv pip uninstall tables && ! python3 -c 'import tables'",
            "printf '# /// script\\n# dependencies = [\"tables\"]\\n# ///\\nimport tables' > x.py; uv run x.py",
            "uv run --no-project --with tables python3 -c 'import tables'",
            "uv venv -q && uv pip install tables && .venv/bin/python -c 'import tables'",
        ):
            result = await sh(box, BY_PROXY + command, timeout_ms=120_000)
            assert result.exit_code == 0, (command, result)
        assert "/simple/charts/" in served.asked
        if shutil.which("npm"):
            served.node("plot-kit", bin={"plot-kit": "bin.js"}, script="#!/usr/bin/env node\nconsole.log('plotted')\n")
            npm = "npm install plot-kit && node -e 'require(\"plot-kit\")' && rm -r node_modules && npx --yes plot-kit"
            result = await sh(box, BY_PROXY + npm, timeout_ms=120_000)
            assert result.stdout.endswith("plotted\n"), result
            result = await sh(box, BY_PROXY + "npm install -g plot-kit && plot-kit", timeout_ms=120_000)
            assert result.stdout.endswith("plotted\n"), result
    finally:
        gone(tmp_path)


@needs_bwrap
async def test_without_it_the_errors_say_how_to_allow_it(
    start_containers: Start, served: Index, tmp_path: Path
) -> None:
    try:
        box = await box_of(start_containers, served, tmp_path)
        said = f"[commands here may not reach 127.0.0.1:{served.server_port}; allow with --allow 127.0.0.1:"
        for command in ("pip install charts", "uv pip install charts"):
            assert said in (await sh(box, f"PATH=$PATH:/run/tools; {command}", timeout_ms=60_000)).stderr, command
        result = await sh(box, "curl -sS https://api.example.org/v1 > out || echo failed")
        assert result.stderr.endswith(
            "[commands here may not reach api.example.org; allow with --allow api.example.org "
            "(in the TUI: Network), or by the request's network_policy]\n"
        )
        assert served.asked == []
    finally:
        gone(tmp_path)


@needs_bwrap
async def test_what_the_proxy_refused_is_named_when_the_command_failed(start_containers: Start) -> None:
    containers = await start_containers()
    box = await containers.create(ContainerSpec("box", network=NetworkPolicy(("files.example.org",))))
    failed = await sh(box, "curl -sSf https://api.example.org/x; curl -sSf http://other.example.org:81/")
    assert failed.stderr.splitlines()[-1] == (
        "[commands here may not reach api.example.org, other.example.org:81; allow with --allow api.example.org "
        "--allow other.example.org:81 (in the TUI: Network), or by the request's network_policy]"
    )
    assert (await sh(box, "curl -s https://api.example.org/x; true")).stderr == ""
    assert (await sh(box, "exit 3")).stderr == ""  # the refusal before is not told twice
    again = await sh(box, "curl -sSI https://third.example.org/")
    assert "may not reach third.example.org; allow with --allow third.example.org " in again.stderr


@pytest.mark.parametrize(
    ("stderr", "hosts"),
    [
        ("curl: (6) Could not resolve host: api.example.org", ["api.example.org"]),
        ("connection broken by 'NewConnectionError('<x>: Failed to establish a new connection: [Errno -3] Temporary "
         "failure in name resolution')': /simple/pandas/", ["pypi.org", "files.pythonhosted.org"]),
        ("npm error request to https://registry.npmjs.org/x failed, reason: getaddrinfo EAI_AGAIN registry.npmjs.org",
         ["registry.npmjs.org"]),
        ("hint: Packages were unavailable because the network was disabled.", ["pypi.org", "files.pythonhosted.org"]),
        ("NameResolutionError(\"<x>: Failed to resolve 'a.example' ([Errno -3]\")", ["a.example"]),
        ("dial tcp: lookup b.example on 127.0.0.1:53: connection refused", ["b.example"]),
        ("socket.gaierror: [Errno -3] Temporary failure in name resolution", []),
        ("fatal: unable to access 'https://github.com/a/b/': Could not resolve host: github.com", ["github.com"]),
    ],
)  # fmt: skip
def test_hosts_are_read_from_what_programs_say(stderr: str, hosts: list[str]) -> None:
    words = Reach(allowed=False).note(stderr).split()
    assert [word for before, word in itertools.pairwise(words) if before == "--allow"] == (hosts or ["HOST"])


def test_what_has_nothing_to_do_with_the_network_is_left_alone() -> None:
    reach = Reach(allowed=False)
    assert reach.note("No such file or directory: https://example.org") == ""
    assert reach.note("", "Could not resolve host: a.example", failed=False) == ""
    assert reach.note("", "Could not resolve host: a.example") != ""
    assert Reach(allowed=False, limited=False).note("Could not resolve host: a.example") == ""


def test_an_index_is_told_where_it_is_reached_and_has_no_password() -> None:
    own = Indexes("https://packages.example/simple", "http://npm.example:81")
    assert own.variables(["packages.example", "npm.example:81"]) == {
        "PIP_INDEX_URL": "https://packages.example/simple",
        "UV_DEFAULT_INDEX": "https://packages.example/simple",
        "NPM_CONFIG_REGISTRY": "http://npm.example:81",
    }
    assert own.variables(["pypi.org", "npm.example"]) == {}
    assert Indexes("https://me:word@packages.example/simple").variables(["packages.example"]) == {}
    assert Indexes().variables(["pypi.org", "registry.npmjs.org"]) == {}
    assert Indexes(PYPI, NPM).chosen() == {}
    assert set(own.variables([])) == {"PIP_RETRIES", "UV_OFFLINE", "NPM_CONFIG_FETCH_RETRIES"}


async def test_a_program_that_is_not_here_is_named_with_what_brings_it(
    start_containers: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(programs.MORE, "frob", "frob-utils")
    box = await (await start_containers()).create(ContainerSpec("lacks"))
    for command in ("frob x", "python3 -c 'import subprocess; subprocess.run([\"frob\"])'", "env frob"):
        said = (await sh(box, command)).stderr
        assert said.splitlines()[-1].startswith("[frob is not here; whoever runs the daemon can bring that: "), said
    assert "not here" not in (await sh(box, "frob x; true")).stderr


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ("sh: 1: pandoc: not found", "pandoc is"),
        ("Error: spawn soffice ENOENT\nbash: line 1: /opt/qpdf: command not found", "soffice, qpdf are"),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'pdfinfo'", "pdfinfo is"),
        ("FileNotFoundError: [Errno 2] No such file or directory: '/mnt/data/git'", ""),
        ("bash: frob: command not found; cannot convert: not found in table", ""),
    ],
)
def test_what_programs_say_of_a_program_that_is_missing(said: str, names: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "SYSTEM_PATH", "")
    assert programs.missing(said).partition(" not here")[0] == names
