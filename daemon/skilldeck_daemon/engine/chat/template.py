"""Chat messages to prompt text, by the Jinja template a model brings.

Templates come with models and are not trusted: they run in Jinja's immutable sandbox, with no file loader. What
templates expect is provided: `tojson` that does not escape for HTML, `raise_exception`, `strftime_now`, loop controls
and the `generation` block. Whether a template wants a call's arguments as the JSON text or as an object is found out
once, by rendering a probe; text is preferred, because then a history is rendered with the very bytes the model wrote.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from skilldeck_daemon.engine.messages import Message, MessageCall
from skilldeck_shared.errors import BadRequest, SkilldeckError
from skilldeck_shared.json_types import JsonObject


class TemplateBroken(SkilldeckError):
    """The model's chat template is missing or does not compile."""


class TemplateMissing(TemplateBroken):
    """The model brings no chat template at all."""


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}` marks the assistant's text for training; here it prints its body."""

    tags = {"generation"}  # noqa: RUF012  (jinja2 declares it so)

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **more: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **more)


def raise_exception(message: str) -> None:
    raise jinja2.exceptions.TemplateError(message)


def environment() -> ImmutableSandboxedEnvironment:
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    env.filters["tojson"] = to_json
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return env


class ChatTemplate:
    """One compiled template with the special tokens of its model.

    `begin`: text a prompt must begin with; put before it where the template does not write it.
    """

    note = ""  # what people should know of a model with it

    def __init__(self, source: str, tokens: dict[str, str] | None = None, begin: str = "") -> None:
        self.source = source
        self._begin = begin
        self._tokens = tokens or {}
        try:
            self._template = environment().from_string(source)
        except jinja2.TemplateError as err:
            raise TemplateBroken(f"The chat template does not compile: {err}.") from err

    @classmethod
    def load(cls, folder: Path, override: str | None = None) -> ChatTemplate:
        """From `chat_template.jinja`, `chat_template.json` or `tokenizer_config.json`. Raises TemplateBroken,
        TemplateMissing when there is none."""
        config = _json(folder / "tokenizer_config.json")
        tokens = {}
        for name, value in {**_json(folder / "special_tokens_map.json"), **config}.items():
            text = value.get("content") if isinstance(value, dict) else value
            if name.endswith("_token") and isinstance(text, str):
                tokens[name] = text
        source: Any = override
        if source is None:
            path = folder / "chat_template.jinja"
            if path.is_file():
                source = path.read_text(encoding="utf-8")
            else:
                source = _json(folder / "chat_template.json").get("chat_template") or config.get("chat_template")
        if isinstance(source, list):  # several named templates; the one for tools knows more
            named = {entry["name"]: entry["template"] for entry in source}
            source = named.get("tool_use") or named.get("default")
        if not isinstance(source, str):
            raise TemplateMissing(
                f"The model in {folder} has no chat template.", "Give one with --chat-template, a Jinja file."
            )
        return cls(source, tokens)

    @property
    def places_skills(self) -> bool:
        """Whether the template itself writes where skills lie, as that of a model trained for this daemon does."""
        return "/mnt/skills/" in self.source

    @cached_property
    def shows_tools(self) -> bool:
        """Whether the tools of a request are in its prompt, found by rendering a probe."""
        tool = {"name": "probe", "description": "", "parameters": {"type": "object", "properties": {}}}
        messages = [{"role": "user", "content": "q"}]
        try:
            shown = self._render(messages, [{"type": "function", "function": tool}], {"add_generation_prompt": True})
        except (jinja2.TemplateError, TypeError, ValueError, AttributeError, KeyError):
            return True  # it looked at them, and wants something else of them
        return "probe" in shown

    @cached_property
    def reads_system(self) -> Literal["anywhere", "first", "never"]:
        """Where this template shows a system message, found by rendering probes: Qwen 3.5's refuses one that is not
        the first, Gemma 3's has turns alternate, Gemma 2's refuses any. One made for skills reads what it wants."""
        system = {"role": "system", "content": "probe"}
        user, answer = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
        if self.places_skills or "probe" in self._shown([user, answer, system, user]):
            return "anywhere"
        return "first" if "probe" in self._shown([system, user]) else "never"

    @cached_property
    def wants_objects(self) -> bool:
        """True when the template needs a call's arguments as an object, found by rendering a probe both ways."""
        wrote = '{"probe": ["x"]}'
        return wrote not in self._probe(wrote, "") and wrote not in self._probe(wrote, None)

    @cached_property
    def hides_calls(self) -> bool:
        """True when calls are shown only in a message whose content is none, as DeepSeek's templates have it."""
        arguments: Any = {"probe": ["x"]} if self.wants_objects else '{"probe": ["x"]}'
        return "probe" not in self._probe(arguments, "text") and "probe" in self._probe(arguments, None)

    def _probe(self, arguments: Any, content: str | None) -> str:
        """A rendered call; "" when the template refuses it."""
        call = {"id": "abcdefghi", "type": "function", "function": {"name": "f", "arguments": arguments}}
        messages: list[JsonObject] = [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": content, "tool_calls": [call]},
        ]
        return self._shown(messages)

    def _shown(self, messages: list[JsonObject]) -> str:
        """Messages rendered; "" when the template refuses them."""
        try:
            return self._render(messages, [], {"add_generation_prompt": False})
        except (jinja2.TemplateError, TypeError, ValueError, AttributeError, KeyError):
            return ""

    def render(self, messages: Sequence[Message], tools: Sequence[JsonObject] = (), **variables: Any) -> str:
        """The prompt up to the place where the assistant's turn begins. Raises BadRequest for what it refuses."""
        given = [self._message(message) for message in messages]
        try:
            return self._render(given, list(tools), {"add_generation_prompt": True, **variables})
        except (jinja2.TemplateError, TypeError, ValueError, AttributeError, KeyError) as err:
            raise BadRequest(
                f"The model's chat template refuses these messages: {err}.",
                "Many templates want roles to alternate, and a system message only at the start.",
                param="input",
            ) from err

    def _render(self, messages: list[JsonObject], tools: list[JsonObject], variables: JsonObject) -> str:
        text = self._template.render(
            messages=messages, tools=tools or None, documents=None, **self._tokens, **variables
        )
        return text if text.startswith(self._begin) else self._begin + text

    def _message(self, message: Message) -> JsonObject:
        if not message.get("tool_calls"):
            return {name: value for name, value in message.items() if name != "tool_calls"}
        calls = [self._call(call) for call in message["tool_calls"]]
        # What a message says beside its calls is dropped where the template shows only one of the two: without the
        # call the result that follows answers nothing.
        content = None if self.hides_calls else message.get("content") or ""
        return {**message, "content": content, "tool_calls": calls}

    def _call(self, call: MessageCall) -> JsonObject:
        function = call["function"]
        arguments: Any = function.get("arguments", "{}")
        if self.wants_objects and isinstance(arguments, str):
            try:
                parsed = json.loads(arguments)
                arguments = parsed if isinstance(parsed, dict) else {"arguments": parsed}
            except ValueError:  # a malformed call of the past; the model sees what it wrote
                arguments = {"malformed": arguments}
        return {**call, "type": "function", "function": {**function, "arguments": arguments}}


class NoTemplate(ChatTemplate):
    """In the place of a template that a model lacks: every chat is refused, saying what can be done."""

    note = "A base model without a chat template: it continues text (/v1/completions) and does not chat."

    def __init__(self, model: str) -> None:
        super().__init__("")
        self._model = model

    def render(self, messages: Sequence[Message], tools: Sequence[JsonObject] = (), **variables: Any) -> str:
        raise BadRequest(
            f"{self._model} has no chat template, so it can continue a text but not chat.",
            "Use /v1/completions, load it with --chat-template FILE, or choose an instruct model.",
            param="model",
        )


def _json(path: Path) -> JsonObject:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as err:
        raise TemplateBroken(f"{path} cannot be read: {err}.") from err
    return found if isinstance(found, dict) else {}
