"""A template made into a skill's folder."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

from skilldeck_shared.errors import BadRequest
from skilldeck_shared.skills.manifest import ManifestError, parse_manifest

_FOLDER = Path(__file__).with_name("templates")

TEMPLATES = MappingProxyType(
    {
        "script": "Counts the lines and words of text files. Use it when someone asks how long a text is.",
        "prose": "Rules for writing release notes. Use it when someone asks for a release note or a changelog entry.",
        "data": "Adds up the number columns of CSV files. Use it when someone asks for totals of a table.",
        "node": "Lists the links of Markdown files. Use it when someone asks which links a document has.",
    }
)
"""Each template with the description of what it does as it is; its author goes on from there."""


def make(name: str, into: Path, *, template: str = "script", description: str = "") -> Path:
    """Write a skill and its tests into `into/name`; returns that folder. Blocks on the disk.

    Raises:
        BadRequest: no such template, a name or description that the format does not allow, or a folder that holds
            something already.
    """
    if template not in TEMPLATES:
        raise BadRequest(f"There is no template {template!r}.", f"There are: {', '.join(TEMPLATES)}.", param="template")
    about = " ".join(description.split()) or TEMPLATES[template]
    values = {"name": name, "title": name.replace("-", " ").capitalize(), "description": _quoted(about)}
    source = _FOLDER / template
    _check(_filled((source / "SKILL.md").read_text(encoding="utf-8"), values), name)
    folder = into / name
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadRequest(
            f"{folder} is there already.", "Choose another name, or another place with --into.", param="name"
        )
    try:
        for file in sorted(path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
            place = folder / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(_filled(file.read_text(encoding="utf-8"), values), encoding="utf-8")
            if file.parent.name == "scripts":
                place.chmod(0o755)
    except OSError as error:
        raise BadRequest(f"{folder} cannot be written: {error.strerror}.", "Choose another place.") from error
    return folder


def _filled(text: str, values: dict[str, str]) -> str:
    for key, value in values.items():
        text = text.replace(f"{{{{{key}}}}}", value)
    return text


def _quoted(text: str) -> str:
    """As a value of YAML: in quotes where it would be read as something else."""
    plain = text[:1].isalnum() and ": " not in text and " #" not in text and not text.endswith(":")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return text if plain else f'"{escaped}"'


def _check(text: str, name: str) -> None:
    try:
        found = parse_manifest(text)
    except ManifestError as error:
        problem = error.problems[0]
        param = "description" if problem.message.startswith("description") else "name"
        raise BadRequest(problem.message[:1].upper() + problem.message[1:], problem.hint, param=param) from error
    if found.name != name:
        raise BadRequest(f"{name!r} cannot name a skill.", "Use lowercase letters, digits and hyphens.", param="name")
