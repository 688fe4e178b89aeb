"""How many tokens a prompt has for another server: as that server counts, else guessed by the bytes of the request.

Two ways of counting are known that generate nothing: `/tokenize` with messages (vLLM, SGLang), and llama.cpp's pair
of `/apply-template` and `/tokenize` with text. Which one a server has is found out once. Where it has neither, tokens
are guessed by what earlier prompts came to: a generation for a count would compute the whole prompt a second time.
"""

from __future__ import annotations

import json
import re
from typing import Literal

import httpx

from skilldeck_daemon.engine.remote.bounds import whole
from skilldeck_shared.characters import clean
from skilldeck_shared.json_types import JsonObject

BYTES_A_TOKEN = 4.0
"""Of English and code, until the server has counted a prompt of its own."""
MESSAGE = 2000
"""Characters of an error that are passed on."""
_WORDS = (
    "context length",
    "context size",
    "context window",
    "maximum context",
    "prompt is too long",
    "too many tokens",
)
_MOST = re.compile(
    r"(?:maximum context length is|context (?:size|length|window)(?: of| is| \()?) ?(\d+)", re.IGNORECASE
)
_HAS = re.compile(r"(?:resulted in|requested|contains(?: at least)?|has|\()\s*(\d+) (?:input )?tokens", re.IGNORECASE)


class Counter:
    """Counts for one server, whose base URL (without `/v1`) is `root`."""

    def __init__(self, client: httpx.AsyncClient, root: str) -> None:
        self._client = client
        self._root = root
        self._way: Literal["messages", "text", "none"] | None = None
        self._bytes_a_token = BYTES_A_TOKEN

    async def count(self, body: JsonObject) -> int | None:
        """The tokens of a request to `/v1/chat/completions`, None where the server does not count."""
        if self._way in (None, "messages"):
            count = await self._by_messages(body)
            if count is not None:
                self._way = "messages"
                return count
        if self._way in (None, "text"):
            count = await self._by_text(body)
            if count is not None:
                self._way = "text"
                return count
        self._way = self._way or "none"
        return None

    async def _by_messages(self, body: JsonObject) -> int | None:
        asked = {
            "model": body["model"],
            "messages": body["messages"],
            "add_generation_prompt": not body.get("continue_final_message"),
        }
        names = ("tools", "chat_template_kwargs", "continue_final_message")
        asked |= {name: body[name] for name in names if body.get(name)}
        found = await self._ask("tokenize", asked)
        count = found.get("count")
        return count if isinstance(count, int) else None

    async def _by_text(self, body: JsonObject) -> int | None:
        names = ("messages", "tools", "tool_choice", "parallel_tool_calls", "chat_template_kwargs")
        prompt = (await self._ask("apply-template", {name: body[name] for name in names if name in body})).get("prompt")
        if not isinstance(prompt, str):
            return None
        asked = {"content": prompt, "add_special": True, "parse_special": True}
        tokens = (await self._ask("tokenize", asked)).get("tokens")
        return len(tokens) if isinstance(tokens, list) else None

    async def _ask(self, path: str, asked: JsonObject) -> JsonObject:
        async with self._client.stream("POST", f"{self._root}/{path}", json=asked) as coming:
            answer = await whole(coming)
        found = answer.json() if answer.status_code == 200 else {}
        return found if isinstance(found, dict) else {}

    def guess(self, body: JsonObject) -> int:
        return int(_size(body) / self._bytes_a_token)

    def learn(self, body: JsonObject, tokens: int) -> None:
        """What a prompt came to, as the server said with its answer."""
        size = _size(body) if tokens > 0 else 0
        if size > 4096:  # of a short one the template is most
            self._bytes_a_token = min(max(size / tokens, 1.0), 8.0)


def _size(body: JsonObject) -> int:
    return len(json.dumps([body["messages"], body.get("tools")], ensure_ascii=False).encode("utf-8", "replace"))


def error_text(answer: httpx.Response) -> tuple[str, str | None]:
    """The message and code of an error answer, whatever its shape."""
    try:
        body = answer.json()
        found = body.get("error", body) if isinstance(body, dict) else body
        if isinstance(found, dict):
            text = found.get("message") or found.get("detail") or found
            return clean(str(text))[:MESSAGE].rstrip("."), found.get("code") if isinstance(
                found.get("code"), str
            ) else None
        return clean(str(found))[:MESSAGE], None
    except ValueError:
        return answer.text[:300].strip() or answer.reason_phrase, None


def token_counts(answer: httpx.Response, context: int) -> tuple[int, int] | None:
    """(tokens of the prompt, what the context holds) where an error answer says that the prompt is too long.

    Both as the server names them; else the context as it is known, and one token more.
    """
    message, code = error_text(answer)
    try:
        body = answer.json()
    except ValueError:
        body = {}
    found = body.get("error", body) if isinstance(body, dict) else {}
    found = found if isinstance(found, dict) else {}
    kind = str(found.get("type") or "")
    words = message.lower()
    if (
        code != "context_length_exceeded"
        and kind != "exceed_context_size_error"
        and not any(w in words for w in _WORDS)
    ):
        return None
    number = found.get("n_ctx") or (match[1] if (match := _MOST.search(message)) else 0)
    most = int(number) if str(number).isdigit() else 0
    most = most or context
    number = found.get("n_prompt_tokens") or (match[1] if (match := _HAS.search(message)) else 0)
    tokens = int(number) if str(number).isdigit() else 0
    return max(tokens, most + 1), most
