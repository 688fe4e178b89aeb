"""Does one thing to copies of a data directory, each time killed (SIGKILL) a step later.

    python killed_midway.py OPERATION DATA WORK STRIDE

A step is whatever the operation does to the disk (an audit event of Python's) or to the database (a statement). Every
copy is then looked at as whoever comes next would: the daemon that opens it, another backup, another restore. Prints
{"steps", "killed", "problems"} as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import event
from sqlalchemy.engine import Engine

from skilldeck_daemon.store import migrations, open_parts
from skilldeck_daemon.store.upkeep import backup
from skilldeck_daemon.store.upkeep.fsck import check

ON_DISK = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.truncate", "open", "shutil.rmtree"}


def upgrade(data: Path, _: Path) -> None:
    async def run() -> None:
        database, _blobs = open_parts(data)
        await database.open()
        await database.close()

    asyncio.run(run())


def make(data: Path, work: Path) -> None:
    backup.make(data, work / "made.tar", overwrite=True)


def restore(data: Path, work: Path) -> None:
    backup.restore(work / "given.tar", data, replace=True)


OPERATIONS: dict[str, Callable[[Path, Path], None]] = {"upgrade": upgrade, "backup": make, "restore": restore}


def until(step: int, work: Callable[[], None]) -> int:
    """Do it in a child that is killed before that step; the number of its steps, or -1 when it was killed."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        count = 0

        def one(name: str, arguments: object = ()) -> None:
            nonlocal count
            if name == "open" and isinstance(arguments, tuple) and arguments[1] in ("r", "rb", None):
                return
            if name in ON_DISK or name == "statement":
                count += 1
                if count == step:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(one)
        event.listen(Engine, "before_cursor_execute", lambda *_: one("statement"))
        try:
            work()
            os.write(writer, str(count).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as said:
        told = said.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return -1
    return int(told or "-2")


def looked_at(operation: str, data: Path, work: Path) -> list[str]:
    """What is wrong with what a killed operation left."""
    found: list[str] = []
    if operation == "backup":
        if (work / "made.tar").exists():  # whole, or not there
            backup.restore(work / "made.tar", work / "second")
        backup.make(data, work / "made.tar", overwrite=True)
    backup.complete(data)
    upgrade(data, work)
    report = asyncio.run(check(*open_parts(data)))
    found += [str(problem) for problem in report.problems]
    if report.schema != migrations.head():
        found.append(f"schema {report.schema}")
    if (data / "restore").exists():
        found.append("restore/ was left")
    return found


def main(operation: str, source: Path, home: Path, stride: int) -> None:
    sys.dont_write_bytecode = True  # the first run would have those steps, too
    given = home / "given.tar"
    backup.make(source, given)

    def fresh() -> tuple[Path, Path]:
        work = home / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        shutil.copytree(source, work / "data")
        os.link(given, work / "given.tar")
        return work / "data", work

    data, work = fresh()
    steps = until(0, lambda: OPERATIONS[operation](data, work))
    problems, killed = [], 0
    for step in range(1, steps + 1, stride):
        data, work = fresh()
        if until(step, lambda: OPERATIONS[operation](data, work)) != -1:  # noqa: B023
            continue
        killed += 1
        try:
            problems += [f"step {step}: {what}" for what in looked_at(operation, data, work)]
        except Exception as error:
            problems.append(f"step {step}: {type(error).__name__}: {error}")
    print(json.dumps({"steps": steps, "killed": killed, "problems": problems}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
