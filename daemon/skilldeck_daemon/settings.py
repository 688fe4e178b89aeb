"""The daemon's settings: flags win over SKILLDECK_… variables, those over config.toml, those over the defaults here.

config.toml may hold tables for others (`[tui]`), which are left alone; an unknown key outside them is an error that
names it, since a misspelt setting would otherwise silently mean its default.
"""

from __future__ import annotations

import ipaddress
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from skilldeck_daemon.engine import engines, families
from skilldeck_shared import paths
from skilldeck_shared.errors import SkilldeckError


class BadSettings(SkilldeckError):
    """A setting is wrong; the daemon does not start."""

    code = "bad_settings"


Words = Annotated[list[str], NoDecode]


class McpServer(BaseModel):
    """One MCP server: a command to run with its variables, or a URL with headers."""

    model_config = ConfigDict(extra="forbid")

    command: str = ""
    args: list[str] = Field(default_factory=list)
    env: dict[str, SecretStr] = Field(default_factory=dict)
    cwd: Path | None = None
    url: str = ""
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    timeout: float = Field(default=120.0, gt=0, description="Seconds for one call.")

    @model_validator(mode="after")
    def _one_way(self) -> McpServer:
        if bool(self.command) == bool(self.url):
            raise ValueError("an MCP server needs exactly one of 'command' and 'url'")
        return self


class Settings(BaseSettings):
    """Every setting, with its meaning."""

    model_config = SettingsConfigDict(env_prefix="SKILLDECK_", extra="ignore", protected_namespaces=())

    model: str = Field(
        "tiny", description="Folder, .gguf file, Hugging Face id, or 'tiny' (the bundled model); '' for none."
    )
    model_name: str = Field("", description="Name to serve the model under.")
    aliases: dict[str, str] = Field(
        default_factory=dict, description="Further names of models: each with the served name it stands for."
    )
    any_model: bool = Field(False, description="The default model answers to names that are not served.")
    engine: str = Field(engines.AUTO, description=f"What runs the model. One of {', '.join(engines.NAMES)}.")
    engine_options: dict[str, Any] = Field(
        default_factory=dict, description="Options of the engine; as a flag or a variable a JSON object."
    )
    remote_url: str = Field("", description="Base URL of a server with /v1/chat/completions; several by commas.")
    remote_api_key: SecretStr = Field(SecretStr(""), description="Key for that server.")
    remote_model: str = Field("", description="The model's name on the remote server.")
    remote_images: bool = Field(False, description="The remote model reads images.")
    chat_template: Path | None = Field(None, description="Jinja file that stands in for the model's chat template.")
    tool_text: Literal["auto", "off"] = Field(
        "auto", description="Calls that the model writes into its text, as JSON: read as calls, or left as text."
    )
    tool_parser: str = Field(
        "auto", description="The family in whose form a local model's calls are read; auto: by its template."
    )
    call_style: Literal["auto", "json", "bash"] = Field(
        "auto",
        description="How the model calls the shell: in its family's form (json), or by a ```bash block; auto: by the"
        " block where the model is small or its template knows no tools.",
    )
    engine_process: Literal["auto", "on", "off"] = Field(
        "auto", description="Run the engine in a process of its own, so that its crash costs only its requests."
    )

    idle_unload: int = Field(
        0, ge=0, description="Seconds without a request after which a model leaves the memory until the next; 0: never."
    )

    host: str = Field("127.0.0.1", description="Address to listen on; beyond loopback it needs --api-key.")
    port: int = Field(1234, ge=0, le=65535, description="0 takes a free port.")
    socket: Path = Field(default_factory=paths.socket_path, description="Control socket.")
    api_key: Annotated[list[SecretStr], NoDecode] = Field(
        default_factory=list, description="Key that clients must send; repeat for several."
    )
    allowed_hosts: Words = Field(default_factory=list, description="Further name the API answers to (Host header).")
    cors_origins: Words = Field(default_factory=list, description="Web origin that may call the API; '*' for all.")
    max_body_mb: int = Field(128, ge=1, description="Largest JSON body in MiB.")
    key_requests: int = Field(
        32, ge=0, description="Of several API keys each may have so many requests, and runs, under way; 0: any number."
    )
    key_memory_mb: int = Field(
        512, ge=0, description="Of several API keys each may have so many MiB of bodies in memory; 0: any number."
    )
    key_tokens: int = Field(
        2_000_000, ge=0, description="Of several API keys each may have prompts of so many tokens under way; 0: any."
    )

    data_dir: Path = Field(default_factory=paths.data_dir, description="Where everything is kept.")
    database_url: str = Field("", description="SQLAlchemy URL, like postgresql://…; else SQLite in the data directory.")
    blobs_url: str = Field("", description="Where several daemons keep contents, like s3://bucket/prefix.")

    sandbox: Literal["auto", "bwrap", "none"] = Field(
        "auto", description="What commands run in; with none they are not isolated at all."
    )
    sandbox_python: Path | None = Field(
        None, description="Virtual environment or prefix that commands have instead of what `sandbox build` made."
    )
    skill_environments: Literal["off", "ask", "on"] = Field(
        "ask",
        description="Packages that a skill says it needs, built in a sandbox: never, after a question, always.",
    )
    package_index: str = Field("https://pypi.org/simple", description="Index that skills' Python packages come from.")
    npm_registry: str = Field(
        "https://registry.npmjs.org", description="Registry that skills' Node packages come from."
    )
    permission: Literal["auto", "ask", "deny"] = Field("auto", description="May the model's commands run?")
    approval_timeout: float = Field(300.0, gt=0, description="Seconds until a question nobody answers is denied.")
    max_memory: Literal["1g", "4g", "16g", "64g"] = Field("4g", description="Largest memory_limit of a container.")
    max_containers: int = Field(64, ge=1, description="Sandboxes open at once.")
    private_hosts: Words = Field(
        default_factory=list, description="Private host that file_url and allowlists may reach."
    )

    web_search: Literal["off", "ddgs", "searxng"] = Field(
        "off", description="Web search: by public engines (ddgs), by a SearXNG server, or off."
    )
    searxng_url: str = Field("", description="Base URL of the SearXNG server.")
    mcp_servers: dict[str, McpServer] = Field(
        default_factory=dict, description="MCP servers that requests may name, by their label."
    )

    watched_versions: int = Field(
        50, ge=1, description="Versions made by watching that a skill keeps; older ones that nobody uses are deleted."
    )
    skills: Literal["named", "auto", "off"] = Field(
        "named",
        description="Skills in .agents/skills: offered when a prompt names them (/name, $name), always, or never.",
    )
    skills_preload: Literal["named", "none", "all"] = Field(
        "named",
        description="Skills whose instructions are put before the model at once: those a request names, none, or all.",
    )
    verify: Literal["off", "mark", "retry"] = Field(
        "mark",
        description="Figures of an answer that no output, file or prompt holds: leave, mark, or ask once more.",
    )
    project: Path | None = Field(None, description="Project whose .agents/skills are offered, once it is trusted.")
    claude_skills: bool = Field(False, description="Look for skills in .claude/skills too.")

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="What is logged.")

    @field_validator("tool_parser")
    @classmethod
    def _family(cls, value: str) -> str:
        if value not in (names := (families.AUTO, *families.known(), families.GENERIC)):
            raise ValueError(f"is {value!r}, none of {', '.join(names)}")
        return value

    @field_validator("allowed_hosts", "cors_origins", "private_hosts", "api_key", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        """A variable holds several values separated by commas."""
        if isinstance(value, str):
            return [word.strip() for word in value.split(",") if word.strip()]
        return value

    @field_validator("engine")
    @classmethod
    def _known_engine(cls, value: str) -> str:
        if value not in engines.NAMES:
            raise ValueError(f"there is no engine {value!r}; there are {', '.join(engines.NAMES)}")
        return value

    @field_validator("data_dir", "socket", "project", "chat_template", "sandbox_python")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value.expanduser().absolute() if value is not None else None

    @model_validator(mode="after")
    def _keys_beyond_loopback(self) -> Settings:
        if not self.loopback and not self.api_key:
            raise ValueError(
                f"listening on {self.host} lets other machines run commands here: set --api-key (or SKILLDECK_API_KEY)"
            )
        if self.web_search == "searxng" and not self.searxng_url.startswith(("http://", "https://")):
            raise ValueError("web_search by searxng needs searxng_url, an http(s) URL")
        if self.database_url.startswith("postgresql://"):
            self.database_url = self.database_url.replace("postgresql://", "postgresql+asyncpg://", 1)
        if self.blobs_url and not self.database_url:
            raise ValueError("blobs_url is for several daemons on one database: set database_url, too")
        if self.engine == engines.REMOTE and not self.remote_url:
            raise ValueError("the remote engine needs --remote-url")
        return self

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the API."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def keys(self) -> list[str]:
        return [key.get_secret_value() for key in self.api_key]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, _ConfigFile(settings_cls)


class _ConfigFile(PydanticBaseSettingsSource):
    """config.toml, when there is one."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        path = paths.config_file()
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise BadSettings(f"{path} cannot be read: {error}.") from error
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise BadSettings(f"{path} is not valid TOML: {error}.", "Mend that line.") from error
        known = self.settings_cls.model_fields
        for name, value in values.items():
            if name not in known and not isinstance(value, dict):
                raise BadSettings(f"{path}: there is no setting {name!r}.", f"Settings: {', '.join(sorted(known))}.")
        return {name: value for name, value in values.items() if name in known}


def load_settings(**flags: Any) -> Settings:
    """Settings from flags (those that are not None), environment and config.toml. Raises BadSettings."""
    return load(Settings, {name: value for name, value in flags.items() if value is not None})


S = TypeVar("S", bound=Settings)


def load(kind: type[S], values: dict[str, Any]) -> S:
    """Make settings; raises BadSettings naming the one that is wrong."""
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise BadSettings(f"{where}: {message}." if where else f"{message[:1].upper()}{message[1:]}.") from None
