"""A chat-completions server on loopback that plays a script, so that a model can be acted out to the byte.

    with ScriptedModel(Turn(Text("hello")), Turn(Call("shell", {"commands": ["ls"]}))) as model:
        ...                         # model.url is the base URL; one turn answers one request, in order of arrival
    model.requests                  # the JSON bodies received; model.headers their headers (lower-case names)

A turn may be a function of the request body that returns a turn. When the script is over the server answers 500
"the script is over" and leaving the `with` block raises, unless the test set `strict=False`.

It runs its own event loop in a thread; `stop()` (or leaving the block) ends it. `Hold(gate)` waits until the test
sets the gate, `Endless` sends until the client leaves; both notice at once when it does.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# ------------------------------------------------------------------ the script


@dataclass(frozen=True)
class Text:
    """Assistant text, sent in pieces of `chunk` characters (0: whole), with `pause` seconds behind each."""

    text: str
    chunk: int = 0
    pause: float = 0.0


@dataclass(frozen=True)
class Reasoning:
    """Reasoning text, under the field name `field` ("reasoning_content" or "reasoning")."""

    text: str
    chunk: int = 0
    field: str = "reasoning_content"


@dataclass(frozen=True)
class Call:
    """One tool call. Arguments: an object, or the exact text the model wrote (which may not be JSON)."""

    name: str
    arguments: dict[str, Any] | str = "{}"
    chunk: int = 7
    id: str | None = None

    @property
    def text(self) -> str:
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments, ensure_ascii=False)


@dataclass(frozen=True)
class Hold:
    """Nothing is sent until the gate is set or the client leaves."""

    gate: threading.Event


NUMBERS = " ".join(map(str, range(4000)))
"""Text for `Endless` in which nothing repeats: a run whose model goes round in circles is ended."""


@dataclass(frozen=True)
class Endless:
    """The text again and again until the client leaves (or the server stops)."""

    text: str = "and on "


@dataclass(frozen=True)
class Drop:
    """The connection is cut here, without the end of the stream."""


@dataclass(frozen=True)
class Raw:
    """One line of the event stream exactly as given (`data: {…}`, a comment, garbage)."""

    line: str


@dataclass(frozen=True)
class Fail:
    """The whole turn is an HTTP error."""

    status: int
    message: str = "scripted failure"
    code: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    more: tuple[tuple[str, Any], ...] = ()  # further fields of the error


Part = Text | Reasoning | Call | Hold | Endless | Drop | Raw


class Turn:
    """The parts of one answer. `finish` None: "tool_calls" when there are calls, else "stop"; `no_usage`: not sent."""

    def __init__(
        self,
        *parts: Part | str,
        finish: str | None = None,
        usage: dict[str, Any] | None = None,
        no_usage: bool = False,
        no_done: bool = False,
    ) -> None:
        self.parts: tuple[Part, ...] = tuple(Text(part) if isinstance(part, str) else part for part in parts)
        self.calls = [part for part in self.parts if isinstance(part, Call)]
        self.finish = finish or ("tool_calls" if self.calls else "stop")
        self.no_done = no_done
        self.usage = None if no_usage else (usage or default_usage(self.parts))


def default_usage(parts: tuple[Part, ...]) -> dict[str, Any]:
    """Made-up but steady counts: a hundred tokens in, one token out for each four characters."""
    size = sum(len(part.text) for part in parts if isinstance(part, Text | Reasoning | Call))
    thought = sum(len(part.text) for part in parts if isinstance(part, Reasoning))
    return usage(100, size // 4 + 1, reasoning=thought // 4)


def usage(prompt: int, completion: int, cached: int = 0, reasoning: int = 0) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


Answer = Turn | Fail
Scripted = Answer | Callable[[dict[str, Any]], Answer]


def shell(*commands: str, **more: Any) -> Call:
    """A call of the shell tool."""
    return Call("shell", {"commands": list(commands), **more})


# ------------------------------------------------------------------ the server


class ScriptedModel:
    """The server; see the module's docstring. Thread-safe to read from the test at any time."""

    def __init__(
        self,
        *turns: Scripted,
        name: str = "scripted",
        strict: bool = True,
        context: int = 32768,
        always: Callable[[dict[str, Any]], Answer] | None = None,
        paths: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] | None = None,
    ) -> None:
        """`always` answers what comes after the script, without recording it; `paths` are further ones it serves."""
        self.name = name
        self.context = context
        self.strict = strict
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.disconnects = 0  # streams that the client left before their end
        self.finished = 0  # streams sent to their end
        self.overrun = 0  # requests that came after the end of the script
        self.url = ""
        self._turns: list[Scripted] = list(turns)
        self._always = always
        self._paths = dict(paths or {})
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._ids = itertools.count(1)

    def then(self, *turns: Scripted) -> ScriptedModel:
        """Append turns to the script."""
        with self._changed:
            self._turns.extend(turns)
        return self

    @property
    def left(self) -> int:
        """Turns not yet played."""
        return len(self._turns)

    def wait(self, predicate: Callable[[ScriptedModel], bool], timeout: float = 60.0) -> None:
        """Block until the predicate holds; it is tried whenever something happens here."""
        with self._changed:
            if not self._changed.wait_for(lambda: predicate(self), timeout):
                raise TimeoutError("the scripted model never reached the expected state")

    async def until(self, predicate: Callable[[ScriptedModel], bool], timeout: float = 60.0) -> None:
        """`wait` for tests on an event loop."""
        await asyncio.to_thread(self.wait, predicate, timeout)

    # -- life

    def start(self) -> ScriptedModel:
        ready = threading.Event()

        def serve() -> None:
            asyncio.set_event_loop(self._loop)
            self._server = self._loop.run_until_complete(asyncio.start_server(self._client, "127.0.0.1", 0))
            port = self._server.sockets[0].getsockname()[1]
            self.url = f"http://127.0.0.1:{port}/v1"
            ready.set()
            self._loop.run_forever()
            for task in self._tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
            self._server.close()
            self._loop.close()

        self._thread = threading.Thread(target=serve, name="scripted-model", daemon=True)
        self._thread.start()
        ready.wait()
        return self

    def stop(self) -> None:
        """Close every connection and the listener; later requests are refused by the system."""
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._thread = None

    def __enter__(self) -> ScriptedModel:
        return self.start()

    def __exit__(self, kind: object, *_: object) -> None:
        self.stop()
        if kind is None and self.strict and self.overrun:
            raise AssertionError(f"{self.overrun} requests came after the end of the script")

    def _note(self, change: Callable[[], None]) -> None:
        with self._changed:
            change()
            self._changed.notify_all()

    # -- HTTP

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        _, path, _ = head[0].split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        raw = await reader.readexactly(int(headers.get("content-length", "0")))
        if path.endswith("/models"):
            model = {"id": self.name, "object": "model", "created": 0, "owned_by": "script"}
            return await send_json(writer, 200, {"object": "list", "data": [{**model, "max_model_len": self.context}]})
        if path in self._paths:
            return await send_json(writer, 200, self._paths[path](json.loads(raw)))
        if not path.endswith("/chat/completions"):
            return await send_json(writer, 404, error(f"no such path: {path}", None))
        body = json.loads(raw)

        def record() -> None:
            self.requests.append(body)
            self.headers.append(headers)

        with self._changed:
            scripted: Scripted | None = self._turns.pop(0) if self._turns else None
        if scripted is None and self._always is not None:
            scripted = self._always(body)
        else:
            self._note(record)
        if scripted is None:
            self.overrun += 1
            return await send_json(writer, 500, error("the script is over", None))
        answer = scripted if isinstance(scripted, Turn | Fail) else scripted(body)
        if isinstance(answer, Fail):
            told = error(answer.message, answer.code)
            told["error"] |= dict(answer.more)
            return await send_json(writer, answer.status, told, answer.headers)
        if not body.get("stream"):
            return await send_json(writer, 200, self._whole(answer))
        left = asyncio.ensure_future(reader.read(1))  # resolves when the client closes its side
        try:
            await self._stream(answer, body, writer, left)
        except (ConnectionError, ClientLeft):
            self._note(lambda: setattr(self, "disconnects", self.disconnects + 1))
        finally:
            left.cancel()

    def _whole(self, turn: Turn) -> dict[str, Any]:
        calls = [
            {"id": part.id or f"call_{n}", "type": "function", "function": {"name": part.name, "arguments": part.text}}
            for n, part in enumerate(turn.calls)
        ]
        text = "".join(part.text for part in turn.parts if isinstance(part, Text))
        message = {"role": "assistant", "content": text or None, **({"tool_calls": calls} if calls else {})}
        return {
            "id": f"chatcmpl-{next(self._ids)}",
            "object": "chat.completion",
            "created": 0,
            "model": self.name,
            "choices": [{"index": 0, "message": message, "finish_reason": turn.finish, "logprobs": None}],
            "usage": turn.usage,
        }

    async def _stream(
        self, turn: Turn, body: dict[str, Any], writer: asyncio.StreamWriter, left: asyncio.Future[bytes]
    ) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        )
        number = next(self._ids)

        async def line(text: str) -> None:
            if left.done():
                raise ClientLeft
            data = f"{text}\n\n".encode()
            writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0)

        async def chunk(delta: dict[str, Any], finish: str | None = None) -> None:
            choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
            await line("data: " + json.dumps(self._chunk(number, [choice]), ensure_ascii=False))

        await chunk({"role": "assistant", "content": ""})
        call_index = 0
        for part in turn.parts:
            match part:
                case Text():
                    for piece in pieces(part.text, part.chunk):
                        await chunk({"content": piece})
                        if part.pause:
                            await asyncio.wait({left}, timeout=part.pause)
                case Reasoning():
                    for piece in pieces(part.text, part.chunk):
                        await chunk({part.field: piece})
                case Call():
                    for delta in call_deltas(part, call_index, f"call_{number}_{call_index}"):
                        await chunk({"tool_calls": [delta]})
                    call_index += 1
                case Hold():
                    while not (part.gate.is_set() or left.done()):
                        await asyncio.wait({left}, timeout=0.01)
                case Endless():
                    while True:
                        await chunk({"content": part.text})
                        await asyncio.wait({left}, timeout=0.002)
                case Drop():
                    writer.transport.abort()
                    return
                case Raw():
                    await line(part.line)
        await chunk({}, turn.finish)
        if turn.usage is not None and (body.get("stream_options") or {}).get("include_usage"):
            await line("data: " + json.dumps({**self._chunk(number, []), "usage": turn.usage}))
        if not turn.no_done:
            await line("data: [DONE]")
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        self._note(lambda: setattr(self, "finished", self.finished + 1))

    def _chunk(self, number: int, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{number}",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": self.name,
            "choices": choices,
        }


class ClientLeft(Exception):
    """The client closed the connection before the stream ended."""


def pieces(text: str, size: int) -> Iterator[str]:
    for start in range(0, len(text), size or max(1, len(text))):
        yield text[start : start + (size or len(text))]


def call_deltas(call: Call, index: int, default_id: str) -> Iterator[dict[str, Any]]:
    """The deltas of one call: its name first, then its arguments in pieces."""
    function = {"name": call.name, "arguments": ""}
    yield {"index": index, "id": call.id or default_id, "type": "function", "function": function}
    for piece in pieces(call.text, call.chunk):
        yield {"index": index, "function": {"arguments": piece}}


def error(message: str, code: str | None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "server_error", "param": None, "code": code}}


async def send_json(
    writer: asyncio.StreamWriter, status: int, body: dict[str, Any], headers: tuple[tuple[str, str], ...] = ()
) -> None:
    data = json.dumps(body).encode()
    extra = "".join(f"{name}: {value}\r\n" for name, value in headers)
    writer.write(
        f"HTTP/1.1 {status} Scripted\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n"
        f"{extra}connection: close\r\n\r\n".encode()
        + data
    )
    await writer.drain()
