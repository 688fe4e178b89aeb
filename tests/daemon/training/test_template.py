"""The shipped chat template writes what the model was trained on, from the messages every model gets."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from skilldeck_daemon.engine.chat.template import environment
from training.data import segments
from training.export import TEMPLATE, WEIGHTS
from training.functions import function_call
from training.render import mark, shell_call, system_message, tool_result
from training.scenario import follow_up, loop, plain

GUIDE = "You are helpful.\n\nSkills are folders of instructions.\n\nWork in /mnt/data."


@pytest.fixture(scope="module")
def template() -> Any:
    return environment().from_string(TEMPLATE.read_text(encoding="utf-8"))


def render(
    template: Any, messages: list[dict[str, Any]], functions: list[dict[str, Any]] | None = None, **more: Any
) -> str:
    shell = {"type": "function", "function": {"name": "shell", "description": "Run commands.", "parameters": {}}}
    tools = [shell, *({"type": "function", "function": function} for function in functions or [])]
    return str(template.render(messages=messages, tools=tools, **more))


@pytest.mark.parametrize("make", [loop, follow_up, plain, function_call])
@pytest.mark.parametrize("split", ["train", "held"])
def test_template_and_training_write_the_same_text(template: Any, make: Any, split: str) -> None:
    for seed in range(60):
        conversation = make(random.Random(seed), split)
        conversation.marking = True
        messages = system_message(conversation.catalogue, conversation.files, GUIDE) + conversation.messages
        wanted = "".join(text for text, _ in segments(conversation))
        assert render(template, messages, conversation.functions) == wanted


def test_both_files_that_hold_the_template_hold_the_same() -> None:
    described = json.loads((WEIGHTS / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert described["chat_template"] == TEMPLATE.read_text(encoding="utf-8")


def test_the_guide_is_left_out_and_the_catalogue_kept(template: Any) -> None:
    text = render(template, system_message([("pear", "Peels pears: quickly")], ["a b.csv"], GUIDE))
    assert "helpful" not in text
    assert "/mnt/skills/pear/SKILL.md: Peels pears: quickly" in text
    assert "/mnt/data/a b.csv" in text


def test_a_catalogue_may_open_the_system_message_or_be_missing(template: Any) -> None:
    assert "/mnt/skills/pear/" in render(template, system_message([("pear", "Peels")], []))
    assert "/mnt/data/x.csv" in render(template, system_message([], ["x.csv"], GUIDE))
    assert "system" not in render(template, [{"role": "system", "content": GUIDE}, {"role": "user", "content": "Hi"}])


def test_attached_text_is_cut_from_the_request(template: Any) -> None:
    content = 'Read x.csv\n\n<file name="x.csv" size="3">\na,b\n</file>'
    text = render(template, [{"role": "user", "content": content}])
    assert text.endswith("<|im_start|>user\nRead x.csv<|im_end|>\n")


def test_content_may_be_a_list_of_parts(template: Any) -> None:
    parts = [{"type": "text", "text": "Hello "}, {"type": "text", "text": "there"}]
    assert "<|im_start|>user\nHello there<|im_end|>" in render(template, [{"role": "user", "content": parts}])


def test_arguments_are_written_verbatim(template: Any) -> None:
    arguments = '{"commands": ["cd /mnt/skills/pear && sh x.sh \\"a\\" > /dev/null"]}'
    function = {"name": "shell", "arguments": arguments}
    message = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "1", "type": "function", "function": function}],
    }
    wanted = '<tool_call>\n{"name": "shell", "arguments": ' + arguments + "}\n</tool_call><|im_end|>"
    assert wanted in render(template, [message])


def test_results_failures_and_instructions_are_told_apart(template: Any) -> None:
    reading = [shell_call("cat /mnt/skills/pear/SKILL.md"), tool_result("# Pear")]
    assert "<|im_start|>tool\nInstructions:\n# Pear<|im_end|>" in render(template, reading)
    running = shell_call("cd /mnt/skills/pear && sh x.sh")
    assert "tool\nResult:\n3 pears<|im_end|>" in render(template, [running, tool_result("3 pears\nstderr:\nslow")])
    failed = tool_result("exit code: 2\nstderr:\nTraceback\nValueError: no pear")
    assert "tool\nFailed:\nstderr:\nTraceback\n(exit code 2): ValueError: no pear<|im_end|>" in render(
        template, [running, failed]
    )
    late = render(template, [running, tool_result("timed out after 5000 ms")])
    assert "(timed out after 5000 ms): (no output)" in late


def test_long_instructions_keep_headings_code_and_commands_in_the_text(template: Any) -> None:
    prose = "\n".join(f"Line {i} of a long story about pears and their trees." for i in range(200))
    front = "---\nname: pear\ndescription: Peels\n---\n# Pear"
    body = f"{front}\n{prose}\n```bash\nsh peel.sh <file>\n```\nUse `--thin`.\nOr run `sh slice.sh <file>`.\n{prose}"
    text = render(template, [shell_call("cat /mnt/skills/pear/SKILL.md"), tool_result(body)])
    assert "sh peel.sh <file>" in text
    assert "Or run `sh slice.sh <file>`." in text
    assert "`--thin`" not in text
    assert len(text) < 500


def test_functions_are_listed_as_the_call_that_is_wanted(template: Any) -> None:
    properties = {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"type": "string"}}
    function = {
        "name": "forecast",
        "description": "Tells the weather",
        "parameters": {"type": "object", "properties": properties, "required": ["city", "days"]},
    }
    text = render(template, [], [function])
    assert 'Functions:\n{"name": "forecast", "arguments": {"city": "", "days": 0}} Tells the weather<|im_end|>' in text


@pytest.mark.parametrize(
    ("said", "marked"),
    [
        ("Use pear-peeler on x.csv.", "Use /mnt/skills/pear-peeler on /mnt/data/x.csv."),
        ("use `Pear-Peeler` on 'X.csv'?", "use /mnt/skills/pear-peeler on /mnt/data/x.csv?"),
        ("read /mnt/data/x.csv", "read /mnt/data/x.csv"),
        ("read my file.csv now", "read /mnt/data/my file.csv now"),
        ("the pear peeler", "the pear peeler"),
    ],
)
def test_names_that_the_user_says_are_marked(template: Any, said: str, marked: str) -> None:
    files = ["x.csv", "my file.csv"]
    assert mark(said, ["pear-peeler"], files) == marked
    messages = [*system_message([("pear-peeler", "Peels")], files), {"role": "user", "content": said}]
    assert f"<|im_start|>user\n{marked}<|im_end|>" in render(template, messages)


def test_the_generation_prompt_opens_an_assistant_turn(template: Any) -> None:
    text = render(template, [{"role": "user", "content": "Hi"}], add_generation_prompt=True)
    assert text.endswith("<|im_end|>\n<|im_start|>assistant\n")
    assert json.dumps(text)
