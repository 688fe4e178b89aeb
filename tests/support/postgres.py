"""A PostgreSQL of the test's own, and an object store that speaks S3: both on this machine, gone with the test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest


def tools() -> Path | None:
    """Where initdb and postgres are; Debian keeps them out of PATH."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return versions[-1].parent if versions else None


needs_postgres = pytest.mark.skipif(tools() is None, reason="PostgreSQL is not installed (apt-get install postgresql)")


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A cluster on a Unix socket in a temporary folder; yields a SQLAlchemy URL with {} for the database's name."""
    binaries = tools()
    assert binaries is not None
    # It refuses to run as root; nobody cannot enter root's temporary folders.
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    folder = Path(tempfile.mkdtemp(prefix="sd-pg-", dir="/tmp"))
    try:
        if user:
            os.chown(folder, user.pw_uid, user.pw_gid)
        data = folder / "data"
        command = [str(binaries / "initdb"), "-D", str(data), "-U", "skilldeck", "-A", "trust", "-E", "UTF8"]
        command += ["--locale=C", "--no-sync"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, **identity)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stderr
        options = ["-k", str(folder), "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=200"]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(  # type: ignore[call-overload]
                [str(binaries / "postgres"), "-D", str(data), *options],
                cwd=folder,
                stdout=log,
                stderr=log,
                **identity,
            )
        try:
            asyncio.run(_ready(folder, server))
            yield f"postgresql+asyncpg://skilldeck@/{{}}?host={folder}"
        finally:
            server.send_signal(signal.SIGQUIT)
            server.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _ready(folder: Path, server: subprocess.Popen[bytes]) -> None:
    for _ in range(1200):
        assert server.poll() is None, (folder / "log").read_text()
        with contextlib.suppress(OSError, asyncpg.PostgresError):
            await (await asyncpg.connect(host=str(folder), user="skilldeck", database="postgres")).close()
            return
        await asyncio.sleep(0.05)
    raise AssertionError("PostgreSQL did not start")


async def create(url: str, name: str) -> str:
    """A new database in the cluster; returns its URL."""
    folder = url.rpartition("=")[2]
    connection = await asyncpg.connect(host=folder, user="skilldeck", database="postgres")
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()
    return url.format(name)


@contextlib.contextmanager
def object_store() -> Iterator[dict[str, str]]:
    """An S3 server on loopback with a bucket `blobs`; yields the variables that clients of it need."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        variables = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        client = boto3.client(
            "s3",
            endpoint_url=variables["AWS_ENDPOINT_URL"],
            aws_access_key_id="test",
            aws_secret_access_key="test",
            region_name="us-east-1",
        )
        client.create_bucket(Bucket="blobs")
        yield variables
    finally:
        server.stop()
