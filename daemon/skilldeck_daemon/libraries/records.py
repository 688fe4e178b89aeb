"""The objects of the wire that the libraries make of what the store keeps. What is stored as it is shown, containers
and conversations for example, are in `store/records.py`."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from skilldeck_daemon.store.records import NamedSkill


class FileObject(TypedDict):
    """A File. `expires_at` is absent rather than null: the published schema knows no null here."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: str
    expires_at: NotRequired[int]


class UploadObject(TypedDict):
    """An Upload, with its File once it is completed."""

    id: str
    object: Literal["upload"]
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    bytes: int
    status: str
    file: NotRequired[FileObject]


class UploadPartObject(TypedDict):
    """An UploadPart."""

    id: str
    object: Literal["upload.part"]
    created_at: int
    upload_id: str


class EnvironmentState(TypedDict):
    """How it stands with what a skill needs; see `SkillEnvironments.state`."""

    status: str
    python: list[str]
    node: list[str]
    detail: str


class EnvironmentAccount(TypedDict):
    """The same with what is known of its building; a daemon without environments says the status `none` and no more."""

    object: Literal["skill.environment"]
    status: str
    python: NotRequired[list[str]]
    node: NotRequired[list[str]]
    detail: NotRequired[str]
    refused: NotRequired[list[str]]
    packages: NotRequired[Any]
    bytes: NotRequired[int | None]
    seconds: NotRequired[float | None]
    log: NotRequired[str]


class SkillObject(TypedDict):
    """A Skill. From `source` on the fields are ours, and those of its latest version."""

    id: str
    object: Literal["skill"]
    created_at: int
    name: str
    description: str
    default_version: str
    latest_version: str
    source: str
    watched: bool
    digest: str
    warnings: list[str]
    environment: EnvironmentState | None


class VersionObject(TypedDict):
    """A SkillVersion. From `source` on the fields are ours."""

    id: str
    object: Literal["skill.version"]
    skill_id: str
    version: str
    created_at: int
    name: str
    description: str
    source: str
    watched: bool
    digest: str
    warnings: list[str]
    environment: EnvironmentState | None


class DiskSkillObject(TypedDict):
    """A skill on disk. `offered` is false for what an untrusted project or another skill of the name hides."""

    id: str
    object: Literal["skill.disk"]
    source: Literal["disk"]
    name: str
    description: str
    path: str
    scope: str
    project: str | None
    trusted: bool
    offered: bool
    warnings: list[str]


class ApprovalObject(TypedDict):
    """A question whether commands may run; `status` is pending, approved or denied."""

    id: str
    object: Literal["approval"]
    status: str
    kind: str
    run_id: str
    call_id: str
    session: str
    commands: list[str]
    skills: list[NamedSkill]
    created_at: int
    expires_at: int


class SearchHit(TypedDict):
    """Where somebody said what is searched for: of the ids one is empty."""

    object: Literal["search.hit"]
    session: str
    run: str
    excerpt: str


class CommandResultObject(TypedDict):
    """What one command came to."""

    stdout: str
    stderr: str
    exit_code: int | None
    timed_out: bool
