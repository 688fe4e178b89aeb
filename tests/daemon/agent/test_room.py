"""What took the room of a context, and outputs that give way before a run ends."""

from __future__ import annotations

from skilldeck_daemon.agent.room import LEAST, shorter_history, shorter_outputs, took_room

USER = {"role": "user", "content": "Go."}


def output(size: int) -> dict[str, str]:
    return {"role": "tool", "content": "a" * (size - 3) + "end"}


def test_the_longest_output_of_the_run_gives_way_first_and_keeps_both_ends() -> None:
    messages = [output(90_000), USER, output(2_000), output(6_000)]
    cut = shorter_outputs(messages, 2)
    assert cut is not None
    assert cut[:3] == messages[:3]
    text = cut[3]["content"]
    assert text.startswith("aaa")
    assert text.endswith("end")
    assert "[3000 characters left out to make room]" in text
    assert len(text) < 3_100


def test_in_the_end_nothing_is_left_to_cut() -> None:
    messages: list[dict[str, str]] | None = [USER, output(5_000), output(3_000)]
    rounds = 0
    while messages is not None:
        last, messages = messages, shorter_outputs(messages, 1)
        rounds += 1
    assert all(len(message["content"]) <= LEAST for message in last)
    assert 4 < rounds < 12
    assert shorter_outputs([output(9_000), USER], 1) is None  # of an earlier run


def test_an_error_says_what_took_the_room() -> None:
    skill = '<skill name="x" path="p">\n' + "s" * 500 + "\n</skill>"
    file = '<file name="a.csv" path="p">\n' + "f" * 2000 + "\n</file>"
    messages = [
        {"role": "system", "content": "i" * 100},
        {"role": "user", "content": f"{skill}\n\nGo.\n\n{file}"},
        {"role": "assistant", "content": None, "tool_calls": []},
        output(1_200),
    ]
    assert took_room(messages) == (
        f"Characters of it: files {len(file):,}, outputs of calls 1,200, skills {len(skill)},"
        " instructions and lists 100, what was said 7."
    )
    assert took_room([USER]) == ""


def test_of_a_history_the_older_outputs_give_way_and_then_its_oldest_turns() -> None:
    newest = output(9_000)
    history = [USER, output(6_000), {"role": "assistant", "content": "Done."}, USER, newest]
    cut = shorter_history(history)
    assert cut is not None
    assert len(cut[1]["content"]) < 3_100
    assert cut[2:] == history[2:]
    for _ in range(9):
        last, cut = cut, shorter_history(cut)
        if cut is None:
            break
    assert last == [USER, newest]  # nothing was said to it yet
