"""Long instructions, cut to what a request is like."""

from __future__ import annotations

from skilldeck_daemon.agent.guidance.sections import shortened

PATH = "/mnt/skills/boats/SKILL.md"
SECTIONS = {
    "Hulls": "Measure twice.\n```bash\n# Not a heading\nhull\n```\n" + "h" * 300,
    "Sails": "Sew with care.\n" + "s" * 300,
    "Masts": "Step the mast.\n" + "m" * 300,
}
TEXT = "# Boats\n\nAll of boats.\n\n" + "\n".join(f"## {title}\n{body}\n" for title, body in SECTIONS.items())


def test_what_fits_is_shown_whole() -> None:
    assert shortened(TEXT, "masts", len(TEXT), PATH) == TEXT


def test_of_a_long_text_the_sections_that_are_meant_are_kept_and_the_others_named() -> None:
    for titles, rest in ((True, "; also on: Hulls, Masts"), (False, "")):
        assert shortened(TEXT, "How do I sew the sails?", 520, PATH, titles=titles) == (
            f"# Boats\n\nAll of boats.\n\n## Sails\n{SECTIONS['Sails']}\n(the rest is in {PATH}{rest})"
        )


def test_a_section_stands_below_the_headings_it_is_part_of() -> None:
    text = TEXT.replace("## Sails", f"## Cloth\n{'c' * 400}\n\n### Sails")
    shown = shortened(text, "How do I sew the sails?", 400, PATH, titles=False)
    assert shown == (f"# Boats\n\nAll of boats.\n\n## Cloth\n### Sails\n{SECTIONS['Sails']}\n(the rest is in {PATH})")


def test_the_section_with_the_command_that_is_begun_is_kept() -> None:
    shown = shortened(TEXT, "How do I sew the sails?", 520, PATH, ["hull"], titles=False)
    assert [title for title in SECTIONS if f"## {title}" in shown] == ["Hulls"]


def test_for_a_program_no_other_section_is_shown() -> None:
    shown = shortened(TEXT, "How do I sew the sails?", 5000, PATH, ["hull"], titles=False, only=True)
    assert shown == f"# Boats\n\nAll of boats.\n\n## Hulls\n{SECTIONS['Hulls']}\n(the rest is in {PATH})"
    assert shortened(TEXT, "How do I sew the sails?", 5000, PATH, ["keel"], only=True) == TEXT


def test_where_nothing_is_meant_what_comes_first_is_kept() -> None:
    shown = shortened(TEXT, "Hello!", 520, PATH)
    assert shown.endswith(f"hhh\n(the rest is in {PATH}; also on: Sails, Masts)")


def test_a_text_without_sections_is_cut_at_a_line() -> None:
    assert shortened("one\ntwo\nthree\n", "two", 8, PATH) == f"one\ntwo\n(the rest is in {PATH})"
    assert shortened(TEXT, "masts", 20, PATH) == f"# Boats\n\n(the rest is in {PATH})"
