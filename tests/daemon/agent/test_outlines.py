"""The headings that a skill says its answer has."""

from __future__ import annotations

import pytest

from skilldeck_daemon.agent.guidance.outlines import headings, held
from support.grammars import follows

TEMPLATE = "Always so:\n\n```markdown\n# [Title]\n\n## Summary\n[One paragraph]\n\n## Next steps\n```\n"


@pytest.mark.parametrize(
    ("instructions", "found"),
    [
        ("Three:\n\n- `## Present`\n- `## To do` (who)\n", ("## Present", "## To do")),
        (TEMPLATE, ("## Summary", "## Next steps")),
        (TEMPLATE + TEMPLATE, ()),  # which of them, the model chooses
        ("Put all of it below `## Notes`.", ()),
        ("# Title\n\n## Not in a template\n\n## Nor this\n", ()),
        ("`## [Name]` and `## <Place>`", ()),
    ],
)
def test_headings_stand_in_a_template_or_by_themselves(instructions: str, found: tuple[str, ...]) -> None:
    assert headings(instructions) == found


def test_an_answer_has_all_of_them_in_their_order() -> None:
    wanted = held(("## Present", "## To do"))
    assert follows(wanted, "Here it is:\n## Present\n- Ada\n\n## To do\n- write")
    assert not follows(wanted, "## Present\n- Ada\n")
    assert not follows(wanted, "## To do\n- x\n## Present\n")
    assert not follows(wanted, "Here it is: " + "and so on " * 20)  # which would never come to an end
    assert held(()) == ""
