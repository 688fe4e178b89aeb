"""Files that requests bring: uploaded, sent along, or behind a URL; what the model is told, and what remains."""

from __future__ import annotations

import asyncio
import base64
import gzip
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import openai
import pytest

from skilldeck_daemon.agent.planning.request import ResponseRequest
from skilldeck_daemon.attachments import convert_document
from support import documents as made
from support.daemon import SHELL, Running, running
from support.scripted_model import Turn, shell

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

PDF = "application/pdf"


class Server:
    """Somebody's web server: friendly or hostile by path; `hits` are the paths asked for."""

    def __init__(self) -> None:
        self.hits: list[str] = []
        self.gone = False
        self.port = 0

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, path: str) -> str:
        return f"http://{self.host}{path}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            path = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1]
            self.hits.append(path)
            status, headers, body = self.answer(path)
            writer.write(f"HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n".encode() + body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def answer(self, path: str) -> tuple[str, str, bytes]:
        if self.gone:
            return "410 Gone", "", b""
        match path:
            case "/notes/plan%20b.txt":
                return "200 OK", "Content-Type: text/plain\r\n", "Plan B: Köln".encode("cp1252")
            case "/paper":
                name = "Content-Disposition: attachment; filename=paper.pdf\r\n"
                return "200 OK", f"Content-Type: application/pdf\r\n{name}", made.pdf("A paper from afar")
            case "/dot.png":
                return "200 OK", "Content-Type: image/png\r\n", PNG
            case "/page":
                return "200 OK", "Content-Type: text/html\r\n", b"<html><h1>Not a picture</h1></html>"
            case "/there":
                return "302 Found", "Location: /paper\r\n", b""
            case "/inside":
                return "302 Found", "Location: http://127.0.0.2:1/secret\r\n", b""
            case "/scheme":
                return "302 Found", "Location: file:///etc/passwd\r\n", b""
            case "/loop":
                return "302 Found", "Location: /loop\r\n", b""
            case "/bomb":
                return "200 OK", "Content-Encoding: gzip\r\n", gzip.compress(bytes(60 << 20), 1)
            case "/claims":
                return "200 OK", "Content-Length: 99999999999\r\n", b"x"
            case "/garbage":
                return "", "", b""
        return "404 Not Found", "", b""


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    serving = Server()
    listening = await asyncio.start_server(serving.handle, "127.0.0.1", 0)
    serving.port = listening.sockets[0].getsockname()[1]
    yield serving
    listening.close()


def encoded(data: bytes, media: str = "") -> str:
    text = base64.b64encode(data).decode()
    return f"data:{media};base64,{text}" if media else text


def message(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "input_text", "text": "Read this."}, *parts]}]


def told(daemon: Running, request: int = -1, position: int = -1) -> str:
    return str(daemon.model.requests[request]["messages"][position]["content"])


async def test_documents_by_id_and_by_data_are_told_as_text_and_never_as_base64() -> None:
    async with running(Turn("ok"), Turn("ok")) as daemon:
        sheet = await daemon.client.files.create(
            file=("people.xlsx", made.xlsx([["city", "people"], ["Oslo", 717_710]])), purpose="user_data"
        )
        document = made.pdf("The minutes of May")
        response = await daemon.client.responses.create(
            model="default",
            input=[  # type: ignore[arg-type]
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "Read this."},
                        {"type": "input_file", "file_id": sheet.id},
                        {
                            "type": "input_file",
                            "filename": "may.pdf",
                            "file_data": encoded(document, "application/pdf"),
                        },
                        {"type": "input_file", "file_data": encoded(document)},
                        {"type": "input_file", "filename": "x.bin", "file_data": encoded(bytes(range(256)))},
                    ],
                }
            ],
        )
        assert response.output_text == "ok"
        text = told(daemon)
        assert text.startswith('Read this.\n\n<file name="people.xlsx" bytes="')
        assert "| Oslo | 717710 |\n</file>" in text
        assert text.count('type="application/pdf">\nThe minutes of May\n</file>') == 2  # one file, brought twice
        assert text.endswith('\n\n<file name="x.bin" bytes="256" type="application/octet-stream"/>')
        assert encoded(document)[:40] not in str(daemon.model.requests)
        counted = await daemon.client.responses.input_tokens.count(model="default", input="x")
        assert counted.input_tokens > 0


async def test_a_name_is_derived_from_what_the_file_is() -> None:
    async with running(Turn("ok")) as daemon:
        parts = [
            {"type": "input_file", "file_data": encoded(b"a,b\n", "text/csv")},
            {"type": "input_file", "file_data": encoded(made.pdf("Nameless"))},
            {"type": "input_file", "file_data": encoded(b"plain", "text/plain;charset=utf-8")},
            {"type": "input_file", "file_data": encoded(b"other"), "filename": "../../file.csv"},
        ]
        await daemon.respond(message(*parts))
        names = [line.split('"')[1] for line in told(daemon).split("\n") if line.startswith("<file ")]
        assert names == ["file.csv", "file.pdf", "file.txt", "file-2.csv"]


async def test_bad_data_is_refused_by_name() -> None:
    async with running() as daemon:
        for data in ("data:text/plain,hello", "not base64!", "data:text/plain;base64,ab=c"):
            body = {"model": "default", "input": message({"type": "input_file", "filename": "a", "file_data": data})}
            answer = await daemon.http.post("/responses", json=body)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input[0].content[1].file_data")
            assert "base64" in answer.json()["error"]["message"]


async def test_what_has_no_text_is_told_with_the_reason_and_hostile_files_do_no_harm() -> None:
    async with running(Turn("ok"), Turn(shell("ls /mnt/data")), Turn("ok")) as daemon:
        hostile = {
            "locked.pdf": (made.pdf("secret", encrypted=True), convert_document.ENCRYPTED),
            "bomb.xlsx": (made.unpacking_bomb(), convert_document.UNPACKS),
            "half.docx": (made.docx("cut")[:200], convert_document.DAMAGED),
            "old.doc": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), convert_document.LEGACY),
        }
        parts = [
            {"type": "input_file", "filename": name, "file_data": encoded(data)} for name, (data, _) in hostile.items()
        ]
        first = await daemon.respond(message(*parts))
        for name, (_, note) in hostile.items():
            assert f'<file name="{name}" note="{note}" bytes=' in told(daemon)
        second = await daemon.respond("And in the shell?", previous_response_id=first["id"], tools=[SHELL])
        listing = second["output"][1]["output"][0]["stdout"].split()
        assert listing == sorted(hostile)


async def test_a_url_is_fetched_once_and_the_history_keeps_what_it_led_to(server: Server) -> None:
    async with running(*[Turn("ok")] * 3, private_hosts=[server.host]) as daemon:
        parts = [
            {"type": "input_file", "file_url": server.url("/notes/plan%20b.txt")},
            {"type": "input_file", "file_url": server.url("/there")},
            {"type": "input_file", "file_url": server.url("/paper"), "filename": "mine.pdf"},
        ]
        first = await daemon.respond(message(*parts))
        text = told(daemon)
        assert '<file name="plan b.txt" bytes="12" type="text/plain">\nPlan B: Köln\n</file>' in text
        assert '<file name="paper.pdf" bytes="' in text
        assert text.count("A paper from afar") == 2
        asked = sorted(server.hits)
        server.gone = True
        second = await daemon.respond("And now?", previous_response_id=first["id"])
        assert daemon.model.requests[1]["messages"][:1] == daemon.model.requests[0]["messages"]
        third = await daemon.respond("And now?", previous_response_id=second["id"])
        assert third["status"] == "completed"
        assert told(daemon, position=0) == text
        assert sorted(server.hits) == asked
        # The stored input shows what the client sent, and the fetched copies are nobody's files.
        page = await daemon.client.responses.input_items.list(first["id"])
        assert page.data[0].content[1].file_url == parts[0]["file_url"]  # type: ignore[union-attr,index]
        assert (await daemon.client.files.list()).data == []
        (record, *_) = (await daemon.daemon.services.store.files.list(10, purpose="fetched")).data
        with pytest.raises(openai.NotFoundError):
            await daemon.client.files.retrieve(record["id"])


async def test_a_connection_that_stores_nothing_remembers_what_a_url_led_to(server: Server) -> None:
    async with running(Turn("ok"), Turn("ok"), Turn("ok"), private_hosts=[server.host]) as daemon:
        runs = daemon.daemon.services.runs
        part = {"type": "input_file", "file_url": server.url("/notes/plan%20b.txt")}
        run = await runs.start(ResponseRequest.parse({"model": "default", "input": message(part), "store": False}))
        await run.finished()
        server.gone = True
        for _ in range(2):
            body = {"model": "default", "input": "And now?", "previous_response_id": run.id, "store": False}
            run = await runs.start(ResponseRequest.parse(body), after=run)
            assert (await run.finished())["status"] == "completed"
            assert "Plan B: Köln" in told(daemon, position=0)
        assert (await daemon.daemon.services.store.files.list(10, purpose="fetched")).data == []


async def test_without_storing_nothing_is_kept_and_a_conversation_goes_on_without_what_is_gone(server: Server) -> None:
    async with running(*[Turn("ok")] * 3, private_hosts=[server.host]) as daemon:
        part = {"type": "input_file", "file_url": server.url("/notes/plan%20b.txt")}
        await daemon.respond(message(part), store=False)
        store = daemon.daemon.services.store
        assert (await store.files.list(10, purpose="fetched")).data == []
        first = await daemon.respond(message(part))
        (record,) = (await store.files.list(10, purpose="fetched")).data
        await store.files.delete(record["id"])
        server.gone = True
        await daemon.respond("And now?", previous_response_id=first["id"])
        assert told(daemon, position=0) == "Read this.\n(a file that is no longer there)"


async def test_a_hostile_url_is_a_400_that_names_the_field_and_leaves_nothing(server: Server) -> None:
    complaints = {
        "/inside": "not a public address",
        "/scheme": "Only http and https",
        "/loop": "redirects",
        "/bomb": "larger than",
        "/claims": "99999999999 bytes",
        "/garbage": "could not be fetched",
        "/none": "404",
    }
    async with running(private_hosts=[server.host]) as daemon:
        fine = {"type": "input_file", "file_url": server.url("/paper")}
        for path, complaint in complaints.items():
            with pytest.raises(openai.BadRequestError) as caught:
                await daemon.client.responses.create(
                    model="default",
                    input=message(fine, {"type": "input_file", "file_url": server.url(path)}),  # type: ignore[arg-type]
                )
            assert (path, caught.value.param) == (path, "input[0].content[2].file_url")
            assert complaint in caught.value.message
        for url in ("ftp://example.org/a", "http://user:secret@example.org/", "http://", "not a url"):
            body = {"model": "default", "input": message({"type": "input_file", "file_url": url})}
            answer = await daemon.http.post("/responses", json=body)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input[0].content[1].file_url")
        assert (await daemon.daemon.services.store.files.list(10, purpose="fetched")).data == []
        assert (await daemon.daemon.services.runs.list()).data == []


async def test_this_machine_is_not_fetched_without_the_operators_word(server: Server) -> None:
    async with running() as daemon:
        body = {"model": "default", "input": message({"type": "input_file", "file_url": server.url("/paper")})}
        answer = await daemon.http.post("/responses", json=body)
        assert answer.status_code == 400
        assert "127.0.0.1" in answer.json()["error"]["message"]
        assert server.hits == []


async def test_images_by_url_reach_a_model_that_reads_images_and_stay_in_the_history(server: Server) -> None:
    async with running(*[Turn("ok")] * 3, private_hosts=[server.host]) as daemon:
        image = {"type": "input_image", "image_url": server.url("/dot.png")}
        refused = await daemon.http.post("/responses", json={"model": "default", "input": message(image)})
        assert refused.status_code == 400
        assert server.hits == []  # nothing is fetched for a model that could not see it
        model: Any = daemon.daemon.services.models.get("default")
        model._caps = replace(model._caps, images=True)
        first = await daemon.respond(message(image))
        shown = {"type": "image_url", "image_url": {"url": encoded(PNG, "image/png")}}
        assert daemon.model.requests[0]["messages"][0]["content"][1] == shown
        server.gone = True
        await daemon.respond("Again?", previous_response_id=first["id"])
        assert daemon.model.requests[1]["messages"][0]["content"][1] == shown
        server.gone = False
        page = {"type": "input_image", "image_url": server.url("/page")}
        answer = await daemon.http.post("/responses", json={"model": "default", "input": message(page)})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input[0].content[1].image_url")
        upload = await daemon.client.files.create(file=("dot.png", PNG), purpose="vision")
        third = await daemon.respond(message({"type": "input_image", "file_id": upload.id}))
        await daemon.client.files.delete(upload.id)
        daemon.model.then(Turn("gone"))
        await daemon.respond("Still there?", previous_response_id=third["id"])
        assert told(daemon, position=0) == "Read this.\n(an image that is no longer there)"


async def test_fetched_files_and_documents_lie_in_the_container_under_their_own_names(server: Server) -> None:
    async with running(
        Turn(shell("ls /mnt/data; head -c 5 paper.pdf")), Turn("ok"), private_hosts=[server.host]
    ) as daemon:
        parts = [
            {"type": "input_file", "file_url": server.url("/paper")},
            {"type": "input_file", "filename": "paper.pdf", "file_data": encoded(made.pdf("Another one"))},
        ]
        response = await daemon.respond(message(*parts), tools=[SHELL])
        assert response["output"][1]["output"][0]["stdout"] == "paper-2.pdf\npaper.pdf\n%PDF-"
        assert 'path="/mnt/data/paper-2.pdf"' in told(daemon, 0)
