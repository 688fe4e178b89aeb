"""A folder read and all rules asked: `lint` and what it takes (see the package for what a rule is).

    findings = lint(Path("csv-summary"), others=[Neighbour("json-inspect", "…")], ignore={"description-long"})

Blocks: files are read, 256 KiB of each at most. Nothing raises but an id that no rule has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from skilldeck_shared.errors import BadRequest
from skilldeck_shared.lint import description, frontmatter, leaks, references, scripts
from skilldeck_shared.lint.rules import Finding, Rule
from skilldeck_shared.lint.skill import File, Neighbour, Skill
from skilldeck_shared.skills.bundle import BundleError, scan
from skilldeck_shared.skills.manifest import ManifestError, decode_manifest, parse_manifest

BUNDLE = Rule("bundle", "error", "the folder is no skill", "It cannot be uploaded or installed as it is.")

CHECKS = (frontmatter, description, references, scripts, leaks)
RULES: MappingProxyType[str, Rule] = MappingProxyType(
    {rule.id: rule for rule in (BUNDLE, *(rule for module in CHECKS for rule in module.RULES))}
)
LEVELS = ("error", "warning", "advice")

_IGNORE = re.compile(r"skilldeck-lint:\s*ignore\s+([\w\s,-]+?)\s*(?:-->|$)", re.MULTILINE)


def chosen(only: Collection[str] = (), ignore: Collection[str] = ()) -> frozenset[str]:
    """The ids of the rules that are asked. Raises BadRequest for one that there is not."""
    for option, ids in (("only", only), ("ignore", ignore)):
        for unknown in sorted(set(ids) - RULES.keys()):
            raise BadRequest(f"There is no rule {unknown!r}.", f"There are: {', '.join(RULES)}.", param=option)
    return frozenset(only or RULES) - frozenset(ignore)


def lint(
    folder: Path, *, others: Sequence[Neighbour] = (), only: Collection[str] = (), ignore: Collection[str] = ()
) -> list[Finding]:
    """What is wrong with the skill in `folder`, sorted by place.

    Args:
        others: skills that it is offered among; of its own name they are passed over.
        only, ignore: ids of rules.
    """
    asked = chosen(only, ignore)
    skill, broken = read(folder)
    if skill is None:
        return sorted(finding for finding in broken if finding.rule in asked)
    off = {word for text in _IGNORE.findall(skill.source) for word in re.split(r"[\s,]+", text)}
    found: Iterable[Finding] = [*broken, *_asked(skill, others)]
    return sorted({finding for finding in found if finding.rule in asked and finding.rule not in off})


def _asked(skill: Skill, others: Sequence[Neighbour]) -> Iterator[Finding]:
    yield from frontmatter.check(skill)
    yield from description.check(skill, others)
    checks: tuple[Callable[[Skill], Iterator[Finding]], ...] = (references.check, scripts.check, leaks.check)
    for check in checks:
        yield from check(skill)


def read(folder: Path) -> tuple[Skill | None, list[Finding]]:
    """The skill, and what makes it unusable or unfit for other clients. None when there is nothing to look at."""
    try:
        tree = scan(folder, ignoring=True)
    except BundleError as error:
        return None, [BUNDLE.at(".", 0, error.title, error.hint)]
    except OSError as error:
        return None, [BUNDLE.at(".", 0, f"{folder} cannot be read: {error.strerror}.", "Check its permissions.")]
    files = [File(entry.path, folder / entry.path, entry.executable, entry.size) for entry in tree.entries]
    # Left out of uploads by us, not by everybody.
    files += [File(path, folder / path, False, (folder / path).stat().st_size) for path in tree.secrets]
    path = next((file.path for file in files if file.path.lower() == "skill.md"), None)
    if path is None:
        hint = "A skill is a folder with a SKILL.md at its top."
        return None, [BUNDLE.at(".", 0, "the folder holds no SKILL.md.", hint)]
    found: list[Finding] = []
    try:
        text = decode_manifest((folder / path).read_bytes())
    except ManifestError as error:
        return None, [frontmatter.problem(problem, path) for problem in error.problems]
    except OSError as error:
        return None, [BUNDLE.at(path, 0, f"{path} cannot be read: {error.strerror}.", "Check its permissions.")]
    name = folder.resolve().name
    manifest = None
    try:
        manifest = parse_manifest(text, name)
    except ManifestError as error:
        found += [frontmatter.problem(problem, path) for problem in error.problems]
        try:  # the other rules say what they can
            manifest = parse_manifest(text, name, lenient=True)
        except ManifestError:
            pass
        else:  # what was read leniently is reported as the error that it is
            reported = {problem.line for problem in error.problems}
            rest = tuple(warning for warning in manifest.warnings if warning.line not in reported)
            manifest = replace(manifest, warnings=rest)
    return Skill(folder, files, path, text, manifest), found


def neighbour(folder: Path) -> Neighbour | None:
    """Name and description of the skill in a folder, None when they cannot be read."""
    try:
        file = next(path for path in sorted(folder.iterdir()) if path.name.lower() == "skill.md")
        manifest = parse_manifest(decode_manifest(file.read_bytes()), folder.resolve().name, lenient=True)
    except (StopIteration, OSError, ManifestError):
        return None
    return Neighbour(manifest.name, manifest.description)
