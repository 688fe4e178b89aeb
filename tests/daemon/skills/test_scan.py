"""Skills on disk: what is found, what wins, what is left out and said; and which projects are trusted."""

from __future__ import annotations

from pathlib import Path

import pytest

from skilldeck_daemon.skills import scan
from skilldeck_daemon.skills.scan import DEPTH, discover, project_of, roots
from skilldeck_daemon.skills.trust import Trust
from skilldeck_shared.errors import BadRequest, NotFound


def put(folder: Path, name: str = "", *, about: str = "Does it.") -> Path:
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text(f"---\nname: {name or folder.name}\ndescription: {about}\n---\n")
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return tmp_path / "project"


def test_skills_of_project_and_home_are_found_at_any_allowed_depth(home: Path, project: Path) -> None:
    put(home / ".agents/skills/mine")
    put(project / ".agents/skills/theirs")
    put(project / ".agents/skills" / "/".join("abcde") / "deep")
    put(project / ".agents/skills" / "/".join("abcdef") / "deeper")
    put(project / ".agents/skills/theirs/references/inner")
    put(project / ".agents/skills/node_modules/package")
    put(project / ".agents/skills/.git/hook")
    (project / ".agents/skills/lower").mkdir()
    (project / ".agents/skills/lower/skill.md").write_text("---\nname: lower\ndescription: d\n---\n")
    found = discover(roots(project, home))
    assert DEPTH == 6
    assert [(skill.name, skill.scope) for skill in found.skills] == [
        ("deep", "project"), ("mine", "user"), ("theirs", "project")
    ]  # fmt: skip
    assert found.warnings == ()


def test_the_project_beats_the_home_with_a_warning(home: Path, project: Path) -> None:
    put(home / ".agents/skills/same")
    winner = put(project / ".agents/skills/same")
    found = discover(roots(project, home))
    assert [(skill.path, skill.shadowed) for skill in found.skills] == [
        (winner, False), (home / ".agents/skills/same", True)
    ]  # fmt: skip
    assert "same" in found.warnings[0]
    assert str(winner) in found.warnings[0]


def test_other_clients_folders_count_only_when_asked(home: Path) -> None:
    put(home / ".claude/skills/other")
    assert discover(roots(None, home)).skills == ()
    assert [skill.name for skill in discover(roots(None, home, claude=True)).skills] == ["other"]


def test_reading_is_lenient_about_names_and_strict_about_the_rest(home: Path) -> None:
    base = home / ".agents/skills"
    put(base / "My_Skill", "My_Skill")
    put(base / "long", about="x" * 2000)
    put(base / "elsewhere", "called-so")
    for name, text in (("mute", "---\nname: mute\n---\n"), ("broken", "---\nname: [\n---\n"), ("bare", "hello")):
        (base / name).mkdir()
        (base / name / "SKILL.md").write_text(text)
    found = discover(roots(None, home))
    assert [skill.name for skill in found.skills] == ["called-so", "long", "my-skill"]
    assert all(skill.warnings for skill in found.skills if skill.name != "long")
    assert len(found.warnings) == 3
    assert all(any(name in warning for warning in found.warnings) for name in ("mute", "broken", "bare"))


def test_links_are_followed_in_the_home_and_not_out_of_a_project(home: Path, project: Path, tmp_path: Path) -> None:
    outside = put(tmp_path / "outside/linked")
    for base in (home / ".agents/skills", project / ".agents/skills"):
        base.mkdir(parents=True)
        (base / "linked").symlink_to(outside)
        (base / "loop").symlink_to(base)
    assert [skill.path for skill in discover(roots(None, home)).skills] == [outside]
    found = discover(roots(project, tmp_path / "nobody"))
    assert found.skills == ()
    assert any("leaves the project" in warning for warning in found.warnings)


def test_a_huge_tree_is_cut_off_with_a_warning(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "FOLDERS", 10)
    for number in range(20):
        put(home / f".agents/skills/s{number:02}")
    found = discover(roots(None, home))
    assert len(found.skills) == 9
    assert "more than 10 folders" in found.warnings[0]


def test_a_project_is_the_nearest_folder_with_git_or_agents(project: Path) -> None:
    (project / ".git").mkdir(parents=True)
    (project / "a/b").mkdir(parents=True)
    assert project_of(project / "a/b") == project
    (project / "a/.agents").mkdir()
    assert project_of(project / "a/b") == project / "a"


def test_trust_is_of_one_real_folder_and_survives(tmp_path: Path) -> None:
    (tmp_path / "p/sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "p")
    trust = Trust(tmp_path / "trusted.json")
    assert not trust.trusts(tmp_path / "p")
    assert trust.add(str(tmp_path / "link")) == {"path": str(tmp_path / "p"), "trusted": True}
    again = Trust(tmp_path / "trusted.json")
    assert again.trusts(tmp_path / "p")
    assert not again.trusts(tmp_path / "p/sub")
    assert [entry["path"] for entry in again.list()] == [str(tmp_path / "p")]
    again.remove(str(tmp_path / "p"))
    assert not trust.trusts(tmp_path / "p")
    with pytest.raises(NotFound):
        trust.remove(str(tmp_path / "p"))
    for wrong in ("", "relative", str(tmp_path / "none")):
        with pytest.raises(BadRequest):
            trust.add(wrong)


def test_a_damaged_trust_file_trusts_nothing(tmp_path: Path) -> None:
    (tmp_path / "trusted.json").write_text('{"projects": ["/"]}')
    assert not Trust(tmp_path / "trusted.json").trusts(tmp_path)
