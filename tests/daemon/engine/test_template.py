"""Chat templates as models bring them: what they may use, what they are kept from, and how calls are shown to them."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from skilldeck_daemon.engine.base import ChatRequest, ModelInfo, TextDelta, ToolCallDone
from skilldeck_daemon.engine.chat.model import TokenChatModel
from skilldeck_daemon.engine.chat.template import ChatTemplate, TemplateBroken
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


@pytest.mark.parametrize("arguments", ["c.function.arguments", "c.function.arguments | tojson"])
def test_calls_are_shown_by_a_template_that_has_them_only_in_messages_without_content(arguments: str) -> None:
    calls = f"{{% for c in m.tool_calls %}}<{{{{ {arguments} }}}}>{{% endfor %}}"
    source = (
        f"{{% for m in messages %}}{{% if m.content is none %}}{calls}{{% else %}}{{{{ m.content }}}}{{% endif %}}|"
    )
    template = ChatTemplate(source + "{% endfor %}")
    assert template.hides_calls
    for said in (None, "", "I look."):
        shown = template.render([USER, {**CALLS, "content": said}])
        assert '<{"commands"' in shown
        assert shown.endswith(">|")
    assert not ChatTemplate(TEMPLATE).hides_calls
    assert not ChatTemplate(BUNDLED).hides_calls


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


def test_a_template_that_shows_calls_and_no_tools_has_them_described_in_its_own_form(tmp_path: Path) -> None:
    calls = "{% for c in m.tool_calls or [] %}<｜tool▁calls▁begin｜>{{ c.function.name }}<｜tool▁sep｜>{% endfor %}"
    source = f"{{% for m in messages %}}[{{{{ m.role }}}}:{{{{ m.content }}}}]{calls}{{% endfor %}}"
    folder = model_folder(tmp_path, template=source)
    engine = ScriptedEngine(folder)
    model = TokenChatModel(engine, folder, ModelInfo("m", "s", vocab=engine.vocabulary.size))
    assert (model.family.name, model.template.shows_tools) == ("deepseek", False)
    tool = {"type": "function", "function": {"name": "shell", "parameters": {"type": "object"}}}
    shown = model.render(ChatRequest([USER, CALLS], tools=[tool]))
    form = (
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>NAME<｜tool▁sep｜>ARGUMENTS<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
    )
    assert form in shown
    assert shown.endswith("]<｜tool▁calls▁begin｜>shell<｜tool▁sep｜>")
    assert ChatTemplate(BUNDLED).shows_tools


def test_a_template_without_tools_shows_calls_and_results_as_text_in_turns_that_alternate(tmp_path: Path) -> None:
    source = (
        "{% set ns = namespace(last='') %}{% for m in messages %}"
        "{% if m.role == ns.last or m.role == 'tool' %}{{ raise_exception('no') }}{% endif %}"
        "{% set ns.last = m.role %}[{{ m.role }}:{{ m.content }}]{% endfor %}"
    )
    folder = model_folder(tmp_path, template=source)
    engine = ScriptedEngine(folder)
    model = TokenChatModel(engine, folder, ModelInfo("m", "s", vocab=engine.vocabulary.size))
    tool = {"type": "function", "function": {"name": "shell", "parameters": {"type": "object"}}}
    call = CALLS["tool_calls"][0]  # type: ignore[index]
    results = [{"role": "tool", "tool_call_id": "c1", "content": text} for text in ("a.csv", "b.csv")]
    history: list[dict[str, Any]] = [
        {"role": "user", "content": "look"},
        {"role": "assistant", "content": "I look.", "tool_calls": [call, call]},
        *results,
    ]
    shown = model.render(ChatRequest(history, tools=[tool]))
    assert '{"name": "NAME", "arguments": ARGUMENTS}' in shown
    form = '<tool_call>\n{"name": "shell", "arguments": {"commands":["ls"]}}\n</tool_call>'
    assert f"[assistant:I look.\n{form}\n{form}]" in shown
    said = "<tool_response>\na.csv\n</tool_response>\n<tool_response>\nb.csv\n</tool_response>"
    assert shown.endswith(f"[user:{said}]")
    more = [*history, {"role": "user", "content": "go on"}, {"role": "assistant", "content": "ok"}]
    assert model.render(ChatRequest(more)).endswith(f"[user:{said}\ngo on][assistant:ok]")


SHOWN = "{% for m in messages %}[{{ m.role }}:{{ m.content }}]{% endfor %}"
REFUSES = "{% for m in messages %}{% if m.role == 'system' REST %}{{ raise_exception('no') }}{% endif %}{% endfor %}"
DROPS = SHOWN.replace("[", "{% if m.role != 'system' or loop.first %}[").replace("]", "]{% endif %}")


@pytest.mark.parametrize(
    ("source", "reads", "shown"),
    [
        (SHOWN, "anywhere", "[system:A][user:q][assistant:a][system:B][user:r]"),
        (DROPS, "first", "[system:A][user:q][assistant:a][user:<system>\nB\n</system>\n\nr]"),
        (
            REFUSES.replace("REST", "and not loop.first") + SHOWN,
            "first",
            "[system:A][user:q][assistant:a][user:<system>\nB\n</system>\n\nr]",
        ),
        (
            REFUSES.replace("REST", "") + SHOWN,
            "never",
            "[user:<system>\nA\n</system>\n\nq][assistant:a][user:<system>\nB\n</system>\n\nr]",
        ),
    ],
    ids=["anywhere", "drops", "only first", "never"],
)
def test_a_system_message_that_a_template_has_no_place_for_is_told_by_the_user(
    source: str, reads: str, shown: str, tmp_path: Path
) -> None:
    folder = model_folder(tmp_path, template=source)
    engine = ScriptedEngine(folder)
    model = TokenChatModel(engine, folder, ModelInfo("m", "s", vocab=engine.vocabulary.size))
    assert model.template.reads_system == reads
    roles = [("system", "A"), ("user", "q"), ("assistant", "a"), ("system", "B"), ("user", "r")]
    assert model.render(ChatRequest([{"role": role, "content": text} for role, text in roles])) == shown
    last: list[dict[str, Any]] = [{"role": role, "content": text} for role, text in roles[1:4]]
    assert model.render(ChatRequest(last)).endswith("B]" if reads == "anywhere" else "[user:<system>\nB\n</system>]")


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
