"""V4A diffs: where hunks apply, what stays as it was, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skilldeck_daemon.tools.patching import PatchError, create, update

FILE = "class A:\n    def f(self):\n        return 1\n\nclass B:\n    def f(self):\n        return 1\n"


@pytest.mark.parametrize(
    ("text", "diff", "expected"),
    [
        ("a\nb\nc\n", " a\n-b\n+B\n c", "a\nB\nc\n"),
        ("a\nb\nc\n", "@@\n-a\n+A\n@@\n-c\n+C\n", "A\nb\nC\n"),
        (FILE, "@@ class B:\n@@     def f(self):\n-        return 1\n+        return 2", FILE[:-2] + "2\n"),
        (FILE, "@@ class B:\n     def f(self):\n-        return 1\n+        return 2", FILE[:-2] + "2\n"),
        ("x\nx\n", "-x\n+y\n*** End of File", "x\ny\n"),
        ("x\n", "+y\n*** End of File", "x\ny\n"),
        ("a\nb\n", "@@ a\n+between", "a\nbetween\nb\n"),
        ("", "+first\n+second", "first\nsecond\n"),
        ("a\r\nb\r\n", " a\n-b\n+c\n+d", "a\r\nc\r\nd\r\n"),
        ("a\nb", "-b\n+c", "a\nc"),
        ("a\nb", " b\n+c", "a\nb\nc"),
        ("a\n\nb\n", " a\n\n-b\n+c", "a\n\nc\n"),
        ("a  \nb\n", " a\n-b\n+c", "a  \nc\n"),
        ("a\nb\n", "@@ -1,2 +1,1 @@\n a\n-b", "a\n"),
        ("one\ttwo\x0bthree\u2028four\nb\n", "-b\n+c", "one\ttwo\x0bthree\u2028four\nc\n"),
        ("a\n", "-a", ""),
    ],
)
def test_a_hunk_applies_where_its_lines_stand(text: str, diff: str, expected: str) -> None:
    assert update(text, diff)[0] == expected


@pytest.mark.parametrize(
    ("text", "diff", "complaint"),
    [
        (FILE, "-        return 1\n+        return 2", "fits at lines 3, 7"),
        ("a\nb\n", "-c\n+d", "not in the file"),
        ("a\nb\n", "@@\n-b\n+B\n@@\n-a\n+A", "not after line 2"),
        ("a\nb\n", "@@ class C\n-b\n+B", "'class C'"),
        ("a\nb\n", "-a\n+A\n*** End of File", "at the end of the file"),
        ("a\n", "", "empty"),
        ("a\n", " a", "changes nothing"),
        ("a\n", "+b", "does not say where"),
        ("a\n", "a\n+b", "begins with none of"),
        ("a\n", "*** Begin Patch\n*** Update File: a\n-a\n*** End Patch", "one file only"),
        ("a\nb\n", "-b\n*** End of File\n+c", "comes after"),
        ("A\n", "-a\n+b", "not in the file"),
        ("  a\n", "-a\n+b", "not in the file"),
    ],
)
def test_what_is_not_clear_is_refused(text: str, diff: str, complaint: str) -> None:
    with pytest.raises(PatchError, match=complaint):
        update(text, diff)


def test_a_new_file_has_a_plus_before_each_line() -> None:
    text, summary = create("+a\n+\n++b\n")
    assert (text, summary.added) == ("a\n\n+b\n", 3)
    assert create("")[0] == ""
    with pytest.raises(PatchError, match="Line 2"):
        create("+a\nb")


LINES = st.lists(
    st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=("Cs",)), max_size=6), max_size=8
)


@given(LINES, LINES, st.booleans())
@settings(max_examples=150, deadline=None)
def test_replacing_a_whole_file_gives_the_new_one(old: list[str], new: list[str], newline: bool) -> None:
    text = "\n".join(old) + ("\n" if newline and old else "")
    lines = text.split("\n")[:-1] if text.endswith("\n") else (text.split("\n") if text else [])
    diff = "@@\n" + "".join(f"-{line}\n" for line in lines) + "".join(f"+{line}\n" for line in new)
    if not lines and not new:
        return
    expected = "".join(f"{line}\n" for line in new)
    if text and not text.endswith("\n"):
        expected = expected.removesuffix("\n")
    assert update(text, diff)[0] == expected
