from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Empty(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Ref(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class Json(_message.Message):
    __slots__ = ("json",)
    JSON_FIELD_NUMBER: _ClassVar[int]
    json: str
    def __init__(self, json: _Optional[str] = ...) -> None: ...

class JsonList(_message.Message):
    __slots__ = ("json", "has_more")
    JSON_FIELD_NUMBER: _ClassVar[int]
    HAS_MORE_FIELD_NUMBER: _ClassVar[int]
    json: _containers.RepeatedScalarFieldContainer[str]
    has_more: bool
    def __init__(self, json: _Optional[_Iterable[str]] = ..., has_more: bool = ...) -> None: ...

class Data(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ("limit", "after", "order", "parent")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    limit: int
    after: str
    order: str
    parent: str
    def __init__(self, limit: _Optional[int] = ..., after: _Optional[str] = ..., order: _Optional[str] = ..., parent: _Optional[str] = ...) -> None: ...

class UpdateRequest(_message.Message):
    __slots__ = ("id", "json")
    ID_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    id: str
    json: str
    def __init__(self, id: _Optional[str] = ..., json: _Optional[str] = ...) -> None: ...

class ForkRequest(_message.Message):
    __slots__ = ("id", "after", "json")
    ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    id: str
    after: str
    json: str
    def __init__(self, id: _Optional[str] = ..., after: _Optional[str] = ..., json: _Optional[str] = ...) -> None: ...

class CompactRequest(_message.Message):
    __slots__ = ("id", "model")
    ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    id: str
    model: str
    def __init__(self, id: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class HelloRequest(_message.Message):
    __slots__ = ("client", "version")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    client: str
    version: str
    def __init__(self, client: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class HelloReply(_message.Message):
    __slots__ = ("version", "instance", "http_url", "pid", "data_dir")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    HTTP_URL_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    DATA_DIR_FIELD_NUMBER: _ClassVar[int]
    version: str
    instance: str
    http_url: str
    pid: int
    data_dir: str
    def __init__(self, version: _Optional[str] = ..., instance: _Optional[str] = ..., http_url: _Optional[str] = ..., pid: _Optional[int] = ..., data_dir: _Optional[str] = ...) -> None: ...

class SubscribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Update(_message.Message):
    __slots__ = ("snapshot", "change")
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    snapshot: Snapshot
    change: Change
    def __init__(self, snapshot: _Optional[_Union[Snapshot, _Mapping]] = ..., change: _Optional[_Union[Change, _Mapping]] = ...) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("instance", "status_json", "skills_json", "files_json", "runs_json", "sessions_json", "containers_json", "approvals_json", "models_json", "disk_skills_json")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    STATUS_JSON_FIELD_NUMBER: _ClassVar[int]
    SKILLS_JSON_FIELD_NUMBER: _ClassVar[int]
    FILES_JSON_FIELD_NUMBER: _ClassVar[int]
    RUNS_JSON_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_JSON_FIELD_NUMBER: _ClassVar[int]
    CONTAINERS_JSON_FIELD_NUMBER: _ClassVar[int]
    APPROVALS_JSON_FIELD_NUMBER: _ClassVar[int]
    MODELS_JSON_FIELD_NUMBER: _ClassVar[int]
    DISK_SKILLS_JSON_FIELD_NUMBER: _ClassVar[int]
    instance: str
    status_json: str
    skills_json: _containers.RepeatedScalarFieldContainer[str]
    files_json: _containers.RepeatedScalarFieldContainer[str]
    runs_json: _containers.RepeatedScalarFieldContainer[str]
    sessions_json: _containers.RepeatedScalarFieldContainer[str]
    containers_json: _containers.RepeatedScalarFieldContainer[str]
    approvals_json: _containers.RepeatedScalarFieldContainer[str]
    models_json: _containers.RepeatedScalarFieldContainer[str]
    disk_skills_json: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, instance: _Optional[str] = ..., status_json: _Optional[str] = ..., skills_json: _Optional[_Iterable[str]] = ..., files_json: _Optional[_Iterable[str]] = ..., runs_json: _Optional[_Iterable[str]] = ..., sessions_json: _Optional[_Iterable[str]] = ..., containers_json: _Optional[_Iterable[str]] = ..., approvals_json: _Optional[_Iterable[str]] = ..., models_json: _Optional[_Iterable[str]] = ..., disk_skills_json: _Optional[_Iterable[str]] = ...) -> None: ...

class Change(_message.Message):
    __slots__ = ("topic", "action", "id", "json")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    topic: str
    action: str
    id: str
    json: str
    def __init__(self, topic: _Optional[str] = ..., action: _Optional[str] = ..., id: _Optional[str] = ..., json: _Optional[str] = ...) -> None: ...

class LogsRequest(_message.Message):
    __slots__ = ("tail", "follow", "level")
    TAIL_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    tail: int
    follow: bool
    level: str
    def __init__(self, tail: _Optional[int] = ..., follow: bool = ..., level: _Optional[str] = ...) -> None: ...

class LogRecord(_message.Message):
    __slots__ = ("time", "level", "logger", "message")
    TIME_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    LOGGER_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    time: float
    level: str
    logger: str
    message: str
    def __init__(self, time: _Optional[float] = ..., level: _Optional[str] = ..., logger: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class StartRunRequest(_message.Message):
    __slots__ = ("request_json", "permission", "project", "disk_skills", "origin")
    REQUEST_JSON_FIELD_NUMBER: _ClassVar[int]
    PERMISSION_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    DISK_SKILLS_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    request_json: str
    permission: str
    project: str
    disk_skills: _containers.RepeatedScalarFieldContainer[str]
    origin: str
    def __init__(self, request_json: _Optional[str] = ..., permission: _Optional[str] = ..., project: _Optional[str] = ..., disk_skills: _Optional[_Iterable[str]] = ..., origin: _Optional[str] = ...) -> None: ...

class StartRunReply(_message.Message):
    __slots__ = ("run_id", "response_json")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_JSON_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    response_json: str
    def __init__(self, run_id: _Optional[str] = ..., response_json: _Optional[str] = ...) -> None: ...

class CancelRunRequest(_message.Message):
    __slots__ = ("id", "after_turn")
    ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_TURN_FIELD_NUMBER: _ClassVar[int]
    id: str
    after_turn: bool
    def __init__(self, id: _Optional[str] = ..., after_turn: bool = ...) -> None: ...

class SearchRequest(_message.Message):
    __slots__ = ("text", "limit")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    text: str
    limit: int
    def __init__(self, text: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class WatchRunRequest(_message.Message):
    __slots__ = ("run_id", "after")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    after: int
    def __init__(self, run_id: _Optional[str] = ..., after: _Optional[int] = ...) -> None: ...

class RunEvent(_message.Message):
    __slots__ = ("run_id", "sequence", "type", "json", "time")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    sequence: int
    type: str
    json: str
    time: float
    def __init__(self, run_id: _Optional[str] = ..., sequence: _Optional[int] = ..., type: _Optional[str] = ..., json: _Optional[str] = ..., time: _Optional[float] = ...) -> None: ...

class RunDetail(_message.Message):
    __slots__ = ("response_json", "input_json", "timeline_json")
    RESPONSE_JSON_FIELD_NUMBER: _ClassVar[int]
    INPUT_JSON_FIELD_NUMBER: _ClassVar[int]
    TIMELINE_JSON_FIELD_NUMBER: _ClassVar[int]
    response_json: str
    input_json: _containers.RepeatedScalarFieldContainer[str]
    timeline_json: str
    def __init__(self, response_json: _Optional[str] = ..., input_json: _Optional[_Iterable[str]] = ..., timeline_json: _Optional[str] = ...) -> None: ...

class DecideApprovalRequest(_message.Message):
    __slots__ = ("id", "decision", "remember_for_session", "message", "remember_always", "prefix")
    ID_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    REMEMBER_FOR_SESSION_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REMEMBER_ALWAYS_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    id: str
    decision: str
    remember_for_session: bool
    message: str
    remember_always: bool
    prefix: str
    def __init__(self, id: _Optional[str] = ..., decision: _Optional[str] = ..., remember_for_session: bool = ..., message: _Optional[str] = ..., remember_always: bool = ..., prefix: _Optional[str] = ...) -> None: ...

class UploadSkillRequest(_message.Message):
    __slots__ = ("header", "data")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    header: UploadSkillHeader
    data: bytes
    def __init__(self, header: _Optional[_Union[UploadSkillHeader, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class UploadSkillHeader(_message.Message):
    __slots__ = ("skill_id", "by_name", "make_default", "digest", "source", "watched", "size", "files", "origin")
    SKILL_ID_FIELD_NUMBER: _ClassVar[int]
    BY_NAME_FIELD_NUMBER: _ClassVar[int]
    MAKE_DEFAULT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    WATCHED_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    skill_id: str
    by_name: bool
    make_default: bool
    digest: str
    source: str
    watched: bool
    size: int
    files: _containers.RepeatedCompositeFieldContainer[SkillFile]
    origin: str
    def __init__(self, skill_id: _Optional[str] = ..., by_name: bool = ..., make_default: bool = ..., digest: _Optional[str] = ..., source: _Optional[str] = ..., watched: bool = ..., size: _Optional[int] = ..., files: _Optional[_Iterable[_Union[SkillFile, _Mapping]]] = ..., origin: _Optional[str] = ...) -> None: ...

class SkillFile(_message.Message):
    __slots__ = ("path", "sha256", "size", "executable")
    PATH_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    EXECUTABLE_FIELD_NUMBER: _ClassVar[int]
    path: str
    sha256: str
    size: int
    executable: bool
    def __init__(self, path: _Optional[str] = ..., sha256: _Optional[str] = ..., size: _Optional[int] = ..., executable: bool = ...) -> None: ...

class MissingBlobsRequest(_message.Message):
    __slots__ = ("sha256",)
    SHA256_FIELD_NUMBER: _ClassVar[int]
    sha256: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, sha256: _Optional[_Iterable[str]] = ...) -> None: ...

class MissingBlobsReply(_message.Message):
    __slots__ = ("sha256",)
    SHA256_FIELD_NUMBER: _ClassVar[int]
    sha256: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, sha256: _Optional[_Iterable[str]] = ...) -> None: ...

class UploadSkillReply(_message.Message):
    __slots__ = ("skill_json", "version_json", "unchanged")
    SKILL_JSON_FIELD_NUMBER: _ClassVar[int]
    VERSION_JSON_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    skill_json: str
    version_json: str
    unchanged: bool
    def __init__(self, skill_json: _Optional[str] = ..., version_json: _Optional[str] = ..., unchanged: bool = ...) -> None: ...

class SkillVersionRef(_message.Message):
    __slots__ = ("skill_id", "version")
    SKILL_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    skill_id: str
    version: str
    def __init__(self, skill_id: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class ReadSkillFileRequest(_message.Message):
    __slots__ = ("skill_id", "version", "path")
    SKILL_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    skill_id: str
    version: str
    path: str
    def __init__(self, skill_id: _Optional[str] = ..., version: _Optional[str] = ..., path: _Optional[str] = ...) -> None: ...

class ProjectRef(_message.Message):
    __slots__ = ("path",)
    PATH_FIELD_NUMBER: _ClassVar[int]
    path: str
    def __init__(self, path: _Optional[str] = ...) -> None: ...

class DiskSkills(_message.Message):
    __slots__ = ("json", "warnings")
    JSON_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    json: _containers.RepeatedScalarFieldContainer[str]
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, json: _Optional[_Iterable[str]] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class UploadFileRequest(_message.Message):
    __slots__ = ("header", "data")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    header: UploadFileHeader
    data: bytes
    def __init__(self, header: _Optional[_Union[UploadFileHeader, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class UploadFileHeader(_message.Message):
    __slots__ = ("filename", "purpose", "size")
    FILENAME_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    filename: str
    purpose: str
    size: int
    def __init__(self, filename: _Optional[str] = ..., purpose: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...

class ContainerFileRef(_message.Message):
    __slots__ = ("container_id", "file_id")
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    FILE_ID_FIELD_NUMBER: _ClassVar[int]
    container_id: str
    file_id: str
    def __init__(self, container_id: _Optional[str] = ..., file_id: _Optional[str] = ...) -> None: ...

class TrialsRequest(_message.Message):
    __slots__ = ("evaluation", "skill", "keys", "limit", "after", "order")
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    SKILL_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    evaluation: str
    skill: str
    keys: _containers.RepeatedScalarFieldContainer[str]
    limit: int
    after: str
    order: str
    def __init__(self, evaluation: _Optional[str] = ..., skill: _Optional[str] = ..., keys: _Optional[_Iterable[str]] = ..., limit: _Optional[int] = ..., after: _Optional[str] = ..., order: _Optional[str] = ...) -> None: ...

class ExecRequest(_message.Message):
    __slots__ = ("container_id", "command", "timeout_ms")
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    container_id: str
    command: str
    timeout_ms: int
    def __init__(self, container_id: _Optional[str] = ..., command: _Optional[str] = ..., timeout_ms: _Optional[int] = ...) -> None: ...

class LoadModelRequest(_message.Message):
    __slots__ = ("model", "name", "engine", "options_json", "keep_default")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_JSON_FIELD_NUMBER: _ClassVar[int]
    KEEP_DEFAULT_FIELD_NUMBER: _ClassVar[int]
    model: str
    name: str
    engine: str
    options_json: str
    keep_default: bool
    def __init__(self, model: _Optional[str] = ..., name: _Optional[str] = ..., engine: _Optional[str] = ..., options_json: _Optional[str] = ..., keep_default: bool = ...) -> None: ...

class LoadProgress(_message.Message):
    __slots__ = ("fraction", "stage", "model_json", "error_json")
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    MODEL_JSON_FIELD_NUMBER: _ClassVar[int]
    ERROR_JSON_FIELD_NUMBER: _ClassVar[int]
    fraction: float
    stage: str
    model_json: str
    error_json: str
    def __init__(self, fraction: _Optional[float] = ..., stage: _Optional[str] = ..., model_json: _Optional[str] = ..., error_json: _Optional[str] = ...) -> None: ...
