"""How often what a response reports as unsupported (`skilldeck.ungrounded`) is right, over answers of the skill bench.

Two things are counted over every answer that follows a command: how many of its figures are reported, of answers that
are right and that are not; and how many are when each figure is made wrong, by one, as a model misreads it. The second
is what a misread figure's chance of being reported is: a small one often stands elsewhere in what was read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from skilldeck_daemon.agent.grounded import figures, ungrounded
from skilldeck_daemon.bench.skill_tasks import Deed, Task, Verdict

_LAST_DIGITS = re.compile(r"\d+(?=\D*$)")


def counted(done: Iterable[tuple[Task, Deed, Verdict]]) -> str:
    """One sentence, "" where no answer follows a command."""
    answers = there = 0
    reported = {True: 0, False: 0}  # by whether the answer is right
    changed = caught = 0
    for task, deed, verdict in done:
        if not deed.commands or not deed.answer:
            continue
        answers += 1
        reported[verdict.right] += len(deed.unsupported)
        read = _read(task, deed)
        for start, end in figures(deed.answer):
            there += 1
            other = _LAST_DIGITS.sub(_one_more, deed.answer[start:end], count=1)
            wrong = f"{deed.answer[:start]}{other}{deed.answer[end:]}"
            changed += 1
            caught += any(place.start < start + len(other) and start < place.end for place in ungrounded(wrong, read))
    if not answers:
        return ""
    return (
        f"{there} figures in {answers} answers behind commands: reported as unsupported {reported[True]} in right"
        f" answers and {reported[False]} in others; of each made wrong by one, {caught} of {changed}."
    )


def _one_more(match: re.Match[str]) -> str:
    return str(int(match[0]) + 1).zfill(len(match[0]))


def _read(task: Task, deed: Deed) -> Sequence[str]:
    """What the model had before it, as far as a result keeps it."""
    ran = " ".join(command for command, _ in deed.commands)
    used = [path for path in task.skills if path.name in ran or path.name in task.prompt]
    codes = [f"exit code: {code}" for _, code in deed.commands if code]
    texts = [(path / "SKILL.md").read_text(encoding="utf-8") for path in used]
    return [task.prompt, deed.printed, *codes, *texts, *(path.name for path in task.files)]
