"""Chat templates as models bring them: what they may use, what they are kept from, and how calls are shown to them."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from skilldeck_daemon.engine.base import ChatRequest, ModelInfo, TextDelta, ToolCallDone
from skilldeck_daemon.engine.chat import TokenChatModel
from skilldeck_daemon.engine.template import ChatTemplate, TemplateBroken
from skilldeck_shared.errors import BadRequest
from support.token_engines import TEMPLATE, ScriptedEngine, model_folder

USER = {"role": "user", "content": "grüße <b>"}
CALLS = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "shell", "arguments": '{"commands":["ls"]}'}},
    ],
}
BUNDLED = (files("skilldeck_daemon.engine") / "tiny" / "chat_template.jinja").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("{{ messages | tojson }}", json.dumps([USER], ensure_ascii=False)),
        ("{{ messages[0] | tojson(indent=2) }}", json.dumps(USER, ensure_ascii=False, indent=2)),
        ("{% generation %}{{ messages[0].content }}{% endgeneration %}", "grüße <b>"),
        ("{% for m in messages %}{{ m.role }}{% break %}{% endfor %}", "user"),
        ("{{ bos_token }}{% if tools %}x{% endif %}{% if not tools %}none{% endif %}", "<s>none"),
        ("{{ strftime_now('%%') }}", "%"),
        ("{% if enable_thinking is defined %}{{ enable_thinking }}{% endif %}", "False"),
        ("{% set ns = namespace(a=1) %}{% set ns.a = 2 %}{{ ns.a }}\n", "2"),
    ],
)
def test_what_templates_use_is_there(source: str, shown: str) -> None:
    assert ChatTemplate(source, {"bos_token": "<s>"}).render([USER], enable_thinking=False) == shown


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% include '/etc/passwd' %}",
        "{{ raise_exception('roles must alternate') }}",
    ],
)
def test_a_template_that_reaches_out_or_refuses_is_a_bad_request(source: str) -> None:
    with pytest.raises(BadRequest) as caught:
        ChatTemplate(source).render([USER])
    assert caught.value.param == "input"


def test_a_template_that_does_not_compile_is_named_at_load() -> None:
    with pytest.raises(TemplateBroken, match="does not compile"):
        ChatTemplate("{% for %}")


def showing(call: str) -> str:
    """A template that shows nothing but its calls, each in this way."""
    return f"{{% for m in messages %}}{{% for c in m.tool_calls or [] %}}{call}{{% endfor %}}{{% endfor %}}"


TO_JSON = showing("{{ c.function.arguments | tojson }}")


@pytest.mark.parametrize(
    ("source", "objects"),
    [
        (showing("{{ c.function.arguments }}"), False),
        (TO_JSON, True),
        (showing("{% for k, v in c.function.arguments | items %}{{ k }}={{ v }}{% endfor %}"), True),
        (TEMPLATE, False),
        (BUNDLED, False),
    ],
)
def test_arguments_come_as_text_unless_the_template_needs_an_object(source: str, objects: bool) -> None:
    template = ChatTemplate(source)
    assert template.wants_objects is objects
    shown = template.render([USER, CALLS])
    assert "commands" in shown
    assert "ls" in shown
    if not objects:
        assert '{"commands":["ls"]}' in shown


def test_a_malformed_call_of_the_past_can_still_be_shown() -> None:
    template = ChatTemplate(TO_JSON)
    broken = {**CALLS, "tool_calls": [{"id": "c", "function": {"name": "shell", "arguments": '{"commands": ["ls'}}]}
    assert json.loads(template.render([USER, broken])) == {"malformed": '{"commands": ["ls'}


def test_a_template_is_found_wherever_models_keep_it(tmp_path: Path) -> None:
    with pytest.raises(TemplateBroken, match="no chat template"):
        ChatTemplate.load(tmp_path)
    config: dict[str, Any] = {"chat_template": "from config {{ eos_token }}", "eos_token": {"content": "</s>"}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert ChatTemplate.load(tmp_path).render([USER]) == "from config </s>"
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": named}))
    assert ChatTemplate.load(tmp_path).render([USER]) == "tools"
    (tmp_path / "chat_template.jinja").write_text("own file")
    assert ChatTemplate.load(tmp_path).render([USER]) == "own file"
    assert ChatTemplate.load(tmp_path, "given").render([USER]) == "given"


def test_roles_contents_and_tools_are_made_what_templates_expect(tmp_path: Path) -> None:
    source = "{% for m in messages %}[{{ m.role }}:{{ m.content }}]{% endfor %}"
    folder = model_folder(tmp_path, template=source)
    engine = ScriptedEngine(folder)
    model = TokenChatModel(engine, folder, ModelInfo("m", "s", vocab=engine.vocabulary.size))
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    tool = {"type": "function", "function": {"name": "shell", "description": "Run.", "parameters": {"type": "object"}}}
    shown = model.render(
        ChatRequest([{"role": "developer", "content": "be brief"}, {"role": "user", "content": parts}], tools=[tool])
    )
    assert model.family.name == "generic"
    assert shown.startswith("[system:be brief\n\n")
    assert '"name": "shell"' in shown
    assert "<tool_call>" in shown
    assert shown.endswith("[user:a\nb]")


async def test_the_bundled_template_keeps_every_id_of_a_growing_conversation(tmp_path: Path) -> None:
    call = '<tool_call>\n{"name": "shell", "arguments": {"commands": ["cat /mnt/skills/csv/SKILL.md"]}}\n</tool_call>'
    turns = [call, f"First this.\n{call}", "It is 42."]
    folder = model_folder(tmp_path, template=BUNDLED, added=("<tool_call>", "</tool_call>"))
    engine = ScriptedEngine(folder, *turns)
    model = TokenChatModel(engine, folder, ModelInfo("m", "s", vocab=engine.vocabulary.size))
    commands = {"type": "array", "items": {"type": "string"}}
    shell = {"name": "shell", "parameters": {"type": "object", "properties": {"commands": commands}}}
    tools = [{"type": "function", "function": shell}]
    history: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief.\n\nSkills:\n- csv: Read tables.\nFiles:\n- sales.csv"},
        {"role": "user", "content": "use csv on sales.csv"},
    ]
    before: list[int] = []
    for turn in turns:
        events = [event async for event in model.stream(ChatRequest(history, tools=tools))]
        prompt = list(engine.requests[-1].prompt_ids)
        assert prompt[: len(before)] == before
        assert prompt == model.vocabulary.encode(model.vocabulary.decode(prompt))
        before = prompt + model.vocabulary.encode(turn)
        calls = [
            {"id": "c", "type": "function", "function": {"name": event.name, "arguments": event.arguments}}
            for event in events
            if isinstance(event, ToolCallDone)
        ]
        said = "".join(event.text for event in events if isinstance(event, TextDelta))
        history += [{"role": "assistant", "content": said, "tool_calls": calls}]
        history += [{"role": "tool", "tool_call_id": "c", "content": "a,b\n1,2"} for _ in calls]
