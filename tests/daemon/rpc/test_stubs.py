"""The committed stubs are what control.proto generates."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import skilldeck_shared

PROTO = Path(skilldeck_shared.__file__).parent / "proto"


def test_the_committed_stubs_are_those_of_the_protocol_file(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools")
    here = Path("skilldeck_shared/proto/control.proto")
    subprocess.run(
        [
            sys.executable, "-m", "grpc_tools.protoc", "-I", str(PROTO.parents[1]), f"--python_out={tmp_path}",
            f"--pyi_out={tmp_path}", f"--grpclib_python_out={tmp_path}", str(here),
        ],
        check=True,
        cwd=PROTO.parents[1],
        # protoc looks for grpclib's plugin on the PATH, beside the interpreter.
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
    )  # fmt: skip
    for name in ("control_pb2.py", "control_pb2.pyi", "control_grpc.py"):
        made = (tmp_path / here.parent / name).read_text()
        assert made == (PROTO / name).read_text(), f"{name} is stale: run `make proto`"
