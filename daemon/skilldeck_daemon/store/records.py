"""The records of the daemon: what the store keeps and hands out, key by key. Most are objects of the wire.

They are dicts with known keys (TypedDict): read from JSON and written as JSON without a conversion, checked by the type
checker, free at runtime. `Stored…` are objects of the wire with what stays inside; `public_…` leaves that out. Keys
that are not required are absent in what earlier versions stored. Those of runs are in `run_records.py`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal, NotRequired, Required, TypedDict

from skilldeck_shared.json_types import JsonObject

Metadata = dict[str, str]


# ------------------------------------------------------------------ skills


class FileEntry(TypedDict):
    """One file of a version."""

    path: str
    bytes: int
    sha256: str
    executable: bool


KeptNeeds = JsonObject
"""What a version says it needs, as `Needs.kept` of `skills/needs.py` writes it and `Needs.of` reads it."""


class Findings(TypedDict, total=False):
    """What a version's files import and need. Versions of before know of none."""

    imports: dict[str, list[str]]
    node: dict[str, list[str]]
    needs: KeptNeeds


class VersionNotes(Findings):
    """What was found in a version's files."""

    manifest_path: Required[str]
    warnings: Required[list[str]]


class _Uploaded(TypedDict):
    """What an upload says of a version."""

    name: str
    description: str
    digest: str
    origin: str
    source: str
    watched: bool
    doc: VersionNotes


class NewVersion(_Uploaded):
    """A version that has no number yet."""

    files: list[FileEntry]


class VersionRow(_Uploaded):
    """A version. `files` is there where one version was asked for: it may have 500 entries."""

    id: str
    skill_id: str
    version: int
    created_at: int
    promoted: bool
    files: NotRequired[list[FileEntry]]


class SkillColumns(TypedDict):
    """A skill as its table has it."""

    id: str
    created_at: int
    name: str
    default_version: int
    latest_version: int
    last_version: int


class SkillRow(SkillColumns):
    """A skill with the versions it shows, without their files."""

    default: VersionRow
    latest: VersionRow


# ------------------------------------------------------------------ files


class FileRow(TypedDict):
    id: str
    created_at: int
    filename: str
    purpose: str
    bytes: int
    sha256: str
    status: str
    mime_type: str
    expires_at: int | None


class UploadRow(TypedDict):
    id: str
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    bytes: int
    mime_type: str
    status: str
    file_id: str | None
    file_expires_seconds: int | None


class PartRow(TypedDict):
    id: str
    upload_id: str
    created_at: int
    bytes: int
    sha256: str


# ------------------------------------------------------------------ containers


class ExpiresAfter(TypedDict):
    anchor: str
    minutes: int


class ShownPolicy(TypedDict):
    """A network_policy as objects show it: never with secrets."""

    type: Literal["allowlist", "disabled"]
    allowed_domains: NotRequired[list[str]]


class KeptMount(TypedDict):
    """A skill inside a container (`Mounted`, field by field)."""

    name: str
    description: str
    path: str
    skill_id: str
    version: str
    needs: NotRequired[KeptNeeds]


class ContainerObject(TypedDict):
    """A Container."""

    id: str
    object: Literal["container"]
    created_at: int
    status: str
    expires_after: ExpiresAfter
    last_active_at: int
    memory_limit: str
    name: str
    network_policy: ShownPolicy


class StoredContainer(ContainerObject):
    """A Container with its skills, the names of its secrets ([domain, name] each), and the data directory it is in
    where several daemons share the records."""

    mounts: list[KeptMount]
    secrets: NotRequired[list[list[str]]]
    home: NotRequired[str]


class ContainerFileObject(TypedDict):
    """A container.file."""

    id: str
    object: Literal["container.file"]
    created_at: int
    bytes: int
    container_id: str
    path: str
    source: str


class StoredContainerFile(ContainerFileObject):
    """A container.file with the time it was changed, and for what was copied in the name of its content."""

    mtime_ns: int
    key: NotRequired[str]


# ------------------------------------------------------------------ conversations and approvals


class ConversationObject(TypedDict):
    """A Conversation."""

    id: str
    object: Literal["conversation"]
    created_at: int
    metadata: Metadata


class MountedSkill(TypedDict):
    """A mounted skill as approvals know it; `path` says its content."""

    skill_id: str
    version: str
    path: str


class NamedSkill(MountedSkill):
    name: str


class NewRule(TypedDict):
    object: Literal["rule"]
    kind: str
    prefix: str
    skills: NotRequired[list[NamedSkill]]


class Rule(NewRule):
    """A rule that outlives its session."""

    id: str
    created_at: int


# ------------------------------------------------------------------ tests of skills


class Evaluation(TypedDict):
    """An evaluation. What else stands in it is the client's (docs/evals.md)."""

    id: str
    object: Literal["evaluation"]
    created_at: int
    updated_at: int
    skill: str
    status: str


class Trial(TypedDict):
    """A trial. What else stands in it is the client's."""

    id: str
    object: Literal["evaluation.trial"]
    created_at: int
    evaluation_id: str
    skill: str
    key: str


# ------------------------------------------------------------------ what is deleted


class Deleted(TypedDict):
    """What deleting answers with."""

    id: str
    object: str
    deleted: Literal[True]


class DeletedVersion(Deleted):
    version: str


# ------------------------------------------------------------------ what of a stored object the wire has

_OF_CONTAINERS = StoredContainer.__annotations__.keys() - ContainerObject.__annotations__.keys()
_OF_FILES = StoredContainerFile.__annotations__.keys() - ContainerFileObject.__annotations__.keys()


def public_container(record: StoredContainer) -> ContainerObject:
    shown: ContainerObject = without(_OF_CONTAINERS, record)
    return shown


def public_file(record: StoredContainerFile) -> ContainerFileObject:
    shown: ContainerFileObject = without(_OF_FILES, record)
    return shown


def without(inside: Collection[str], record: Any) -> Any:
    return {name: value for name, value in record.items() if name not in inside}
