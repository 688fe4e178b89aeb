"""A package index on loopback, for Python and Node, of what the tests write: real uv and npm take from it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from packaging.utils import canonicalize_name


class Index(ThreadingHTTPServer):
    """Serves the wheels and source distributions of `folder`, and packages of npm given to `node`. `asked` are the
    paths that clients wanted."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.asked: list[str] = []
        self.silent = threading.Event()  # once set, nothing is answered
        self._node: dict[str, dict[str, bytes]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def python(self) -> str:
        return f"{self.url}/simple"

    @property
    def npm(self) -> str:
        return f"{self.url}/npm"

    def node(self, name: str, version: str = "1.0.0", script: str = "", **package: object) -> None:
        """A package of npm whose module exports `name` and its version."""
        described = {"name": name, "version": version, "main": "index.js", **package}
        code = f"module.exports = {{ name: {name!r}, version: {version!r} }};\n"
        files = {"package.json": json.dumps(described), "index.js": code, "bin.js": script or "#!/usr/bin/env node\n"}
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for path, text in files.items():
                member = tarfile.TarInfo(f"package/{path}")
                member.size, member.mode = len(text), 0o755
                archive.addfile(member, io.BytesIO(text.encode()))
        self._node.setdefault(name, {})[version] = packed.getvalue()

    def packument(self, name: str) -> bytes | None:
        if name not in self._node:
            return None
        versions = {}
        for version, packed in self._node[name].items():
            with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
                file = archive.extractfile("package/package.json")
                assert file is not None
                described = json.loads(file.read())
            integrity = "sha512-" + base64.b64encode(hashlib.sha512(packed).digest()).decode()
            dist = {"tarball": f"{self.npm}/-/{name}/{version}.tgz", "integrity": integrity}
            versions[version] = {**described, "dist": dist}
        return json.dumps({"name": name, "dist-tags": {"latest": max(versions)}, "versions": versions}).encode()

    def answer(self, path: str) -> bytes | None:
        if path.startswith("/simple/"):
            name = path.removeprefix("/simple/").strip("/")
            names = [item.name for item in self.folder.iterdir()]
            mine = [file for file in names if canonicalize_name(file.split("-")[0]) == name]
            links = "".join(f'<a href="/files/{file}">{file}</a>' for file in mine)
            return f"<!DOCTYPE html><html><body>{links}</body></html>".encode() if mine else None
        if path.startswith("/files/"):
            file = self.folder / os.path.basename(path)
            return file.read_bytes() if file.exists() else None
        if path.startswith("/npm/-/"):
            name, _, version = path.removeprefix("/npm/-/").rpartition("/")
            return self._node.get(name, {}).get(version.removesuffix(".tgz"))
        return self.packument(path.removeprefix("/npm/").replace("%2f", "/"))


class _Handler(BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.server.silent.is_set():
            threading.Event().wait(30)
        body = self.server.answer(self.path.partition("?")[0])
        self.send_response(200 if body is not None else 404)
        kind = "text/html" if self.path.startswith("/simple") else "application/json"
        self.send_header("Content-Type", kind if not self.path.startswith("/files") else "application/octet-stream")
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body or b"")

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def index(folder: Path) -> Iterator[Index]:
    """Runs one over the distributions in `folder`."""
    folder.mkdir(exist_ok=True)
    with Index(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
