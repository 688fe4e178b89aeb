"""The data generator: deterministic, and its two halves share nothing."""

from __future__ import annotations

import random
import re

import pytest

from training import function_phrases, phrases
from training.data import sample, segments
from training.functions import function_call
from training.held_out import FAILING, LAYOUTS, SCRIPTS, TWO_STEP_LAYOUTS
from training.questions import DEGRADED, KINDS, question
from training.scenario import Conversation, follow_up, loop, plain
from training.words import vocabulary

MAKERS = (loop, follow_up, plain, function_call)


def text_of(conversation: Conversation) -> str:
    return "".join(text for text, _ in segments(conversation))


@pytest.mark.parametrize("make", MAKERS)
def test_a_seed_decides_the_scenario(make) -> None:
    assert text_of(make(random.Random(3), "train")) == text_of(make(random.Random(3), "train"))
    assert text_of(make(random.Random(3), "train")) != text_of(make(random.Random(4), "train"))


def test_a_seed_decides_the_stream_of_examples() -> None:
    one, two = random.Random(9), random.Random(9)
    for progress in (0.0, 0.3, 0.6, 0.8, 1.0):
        assert [sample(one, progress) for _ in range(20)] == [sample(two, progress) for _ in range(20)]


def test_vocabularies_do_not_overlap() -> None:
    train, held = set(vocabulary("train")), set(vocabulary("held"))
    assert len(train) > 1000
    assert len(held) > 150
    assert not train & held


@pytest.mark.parametrize(
    "table",
    [
        phrases.BY_NAME,
        phrases.BY_NAME_ALONE,
        phrases.FOLLOW,
        phrases.DESCRIBE,
        phrases.BY_NEED,
        phrases.GREETINGS,
        phrases.NO_FIT,
        function_phrases.ASK_ONE,
        function_phrases.ASK_MANY,
    ],
)
def test_phrase_tables_do_not_overlap(table: dict[str, list[str]]) -> None:
    assert not set(table["train"]) & set(table["held"])


def names(make, split: str, seeds: range) -> set[str]:
    """Skill names, file stems and script names of many scenarios."""
    found: set[str] = set()
    for seed in seeds:
        conversation = make(random.Random(seed), split)
        found |= {skill.name for skill in conversation.skills}
        found |= {file.rsplit(".", 1)[0] for file in conversation.files}
        for skill in conversation.skills:
            found |= set(re.findall(r"([\w-]+)\.(?:py|sh|js)\b", skill.text))
    return found


def test_names_files_and_scripts_are_never_shared() -> None:
    assert not names(loop, "train", range(120)) & names(loop, "held", range(120))


def test_held_out_material_is_not_in_training() -> None:
    training = "\n".join(text_of(loop(random.Random(seed), "train")) for seed in range(80))
    for _, body, _, about, _ in (SCRIPTS | FAILING).values():
        assert body not in training
        assert about not in training
    for layout in (*LAYOUTS, *TWO_STEP_LAYOUTS):
        for line in layout.splitlines():
            if len(line) > 40 and "{" not in line:
                assert line not in training


def test_shipped_example_skills_are_not_in_training() -> None:
    texts = [text_of(loop(random.Random(seed), "train")) for seed in range(80)]
    training = "\n".join(texts)
    for name in ("csv-summary", "log-triage", "json-inspect", "text-stats", "invoice-check", "markdown-toc"):
        assert name not in training


@pytest.mark.parametrize("kind", [*KINDS, *DEGRADED])
def test_every_kind_of_question_can_be_asked(kind: str) -> None:
    asked = question(random.Random(1), kind)
    assert asked.asks
    for ask in asked.asks:
        if ask.skill is not None:
            assert ask.skill in asked.skills
            assert ask.file in asked.files
            assert all(line.startswith(f"cd /mnt/skills/{ask.skill.name} && ") for line in ask.skill.lines(ask.file))
    if kind == "eight":
        assert len(asked.skills) == 8
    if kind == "long":
        assert len(asked.asks[0].skill.files["SKILL.md"].split()) > 2000
