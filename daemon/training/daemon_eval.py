"""The evaluation's daemon backend: every question goes through a running daemon with the `openai` client.

Per question: the skills are uploaded, a container with them and the files is created, each request is one
`/v1/responses` call in that container, and everything is deleted again. Judged are the items the daemon reports.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai

from training.evaluate import Tree
from training.questions import Ask, Question


def _written(name: str, arguments: str) -> str:
    """A function call as the judge compares it; arguments that are not JSON stay as they came."""
    try:
        parsed = json.loads(arguments)
    except ValueError:
        parsed = arguments
    return json.dumps({"name": name, "arguments": parsed}, ensure_ascii=False, sort_keys=True)


class Daemon:
    """`base_url` such as http://127.0.0.1:8080/v1; `model` is the served name. Requests are greedy (temperature 0)."""

    def __init__(self, base_url: str, model: str = "default", api_key: str = "local") -> None:
        self.client = openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=0, timeout=300)
        self.model = model
        self.tokens, self.seconds = 0, 0.0
        self._wait_until_loaded()

    def _wait_until_loaded(self, patience: float = 120.0) -> None:
        """A daemon that has just started answers 503 while it reads the weights."""
        end = time.monotonic() + patience
        while True:
            try:
                self.client.responses.create(model=self.model, input="Hello", max_output_tokens=16)
                return
            except openai.InternalServerError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.5)

    @contextmanager
    def _container(self, q: Question) -> Iterator[str]:
        skills: list[str] = []
        files: list[str] = []
        container = ""
        try:
            for skill in q.skills:
                parts = [(f"{skill.name}/{path}", text.encode()) for path, text in skill.files.items()]
                skills.append(self.client.skills.create(files=parts).id)
            for name, text in q.files.items():
                files.append(self.client.files.create(file=(name, text.encode()), purpose="user_data").id)
            made = self.client.containers.create(
                name="evaluation",
                file_ids=files,
                skills=[{"type": "skill_reference", "skill_id": skill} for skill in skills],
            )
            container = made.id
            yield container
        finally:
            if container:
                self.client.containers.delete(container)
            for file in files:
                self.client.files.delete(file)
            for uploaded in skills:
                self.client.skills.delete(uploaded)

    def play(self, q: Question, tree: Tree) -> list[tuple[list[str], str]]:
        """`tree` is not used: the daemon's container holds the files."""
        if not q.skills and not q.files:
            return self._ask_all(q, [])
        with self._container(q) as container:
            shell = {"type": "shell", "environment": {"type": "container_reference", "container_id": container}}
            return self._ask_all(q, [shell])

    def _ask_all(self, q: Question, tools: list[dict[str, Any]]) -> list[tuple[list[str], str]]:
        tools = tools + [{"type": "function", "strict": False, **function} for function in q.functions]
        played: list[tuple[list[str], str]] = []
        previous: str | None = None
        for ask in q.asks:
            try:
                commands, answer, previous = self._ask(ask, tools, previous)
            except openai.APIError as error:  # a run that fails is a wrong answer, not the end of the evaluation
                commands, answer = [], f"error: {error}"
            played.append((commands, answer))
        return played

    def _ask(self, ask: Ask, tools: list[dict[str, Any]], previous: str | None) -> tuple[list[str], str, str]:
        commands: list[str] = []
        given: Any = ask.text
        for _ in range(3):
            response: Any = self.client.responses.create(
                model=self.model,
                input=given,
                tools=tools,  # type: ignore[arg-type]
                previous_response_id=previous,
                temperature=0,
                max_tool_calls=5,
                max_output_tokens=1200,
            )
            previous = response.id
            if response.usage:
                self.tokens += response.usage.output_tokens
            given = []
            for item in response.output:
                if item.type == "shell_call":
                    commands += item.action.commands
                elif item.type == "function_call":
                    commands.append(_written(item.name, item.arguments))
                    given.append({"type": "function_call_output", "call_id": item.call_id, "output": ask.result or ""})
            if not given:
                return commands, response.output_text, response.id
        return commands, "(no answer)", str(previous)
