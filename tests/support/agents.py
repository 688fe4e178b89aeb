"""Agent programs of others as data: what installs one, the settings docs/clients.md names, and how it is asked.

Every one is driven without a terminal, at its defaults but for what keeps it on this machine and lets it act unasked.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.scripted_model import Call

SERVER = str(Path(__file__).with_name("mcp_server.py"))
MCP = "deck"
"""What the MCP server is called in each program's settings."""


@dataclass(frozen=True)
class Agent:
    """One program.

    settings: writes its files into a home and returns its variables; the last argument says whether the MCP server is
    configured. ask, again: the arguments of a first and of a further message. shell, picture: a call of its own tool
    that runs a command, that reads an image (None: it has none). servers: whether it takes MCP servers.
    """

    name: str
    package: str
    settings: Callable[[Path, str, bool], dict[str, str]]
    ask: Callable[[str], list[str]]
    again: Callable[[str], list[str]]
    shell: Callable[[str], Call]
    picture: Callable[[Path], Call] | None
    servers: bool = True
    search: Call | None = None  # how it brings a tool of such a server that it has only named so far


def write(path: Path, value: Any) -> None:
    """A file of settings, its folders made; what is no text is written as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))


STDIO: dict[str, Any] = {"command": sys.executable, "args": [SERVER]}


def _codex(home: Path, url: str, server: bool) -> dict[str, str]:
    provider = f'[model_providers.skilldeck]\nname = "skilldeck"\nbase_url = "{url}"\nwire_api = "responses"\n'
    quiet = "check_for_update_on_startup = false\n[analytics]\nenabled = false\n"
    mcp = f"[mcp_servers.{MCP}]\ncommand = {json.dumps(sys.executable)}\nargs = [{json.dumps(SERVER)}]\n"
    # What it does by an MCP server it asks for, unless it is told not to.
    mcp += f'[mcp_servers.{MCP}.tools.add]\napproval_mode = "approve"\n'
    text = f'model = "default"\nmodel_provider = "skilldeck"\n{quiet}{provider}{mcp if server else ""}'
    write(home / ".codex/config.toml", text)
    # Its sandbox's helper is kept in its home, which it refuses to do below the folder of temporary files.
    elsewhere = home.parent / "tmp"
    elsewhere.mkdir(exist_ok=True)
    return {"TMPDIR": str(elsewhere)}


def _claude(home: Path, url: str, server: bool) -> dict[str, str]:
    # A file beside the project, as a person keeps it; -p trusts the folder it is started in.
    write(home / "mcp.json", {"mcpServers": {MCP: STDIO} if server else {}})
    quiet = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1", "DISABLE_TELEMETRY": "1"}
    return {"ANTHROPIC_BASE_URL": url.removesuffix("/v1"), "ANTHROPIC_API_KEY": "local", **quiet}


def _opencode(home: Path, url: str, server: bool) -> dict[str, str]:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "skilldeck",
        "options": {"baseURL": url, "apiKey": "local"},
        "models": {"default": {}},
    }
    mcp = {"mcp": {MCP: {"type": "local", "command": [sys.executable, SERVER]}}} if server else {}
    path = home / ".config/opencode/opencode.json"
    write(path, {"provider": {"skilldeck": provider}, "model": "skilldeck/default", **mcp})
    return {"OPENCODE_DISABLE_AUTOUPDATE": "1"}


def _pi(home: Path, url: str, server: bool) -> dict[str, str]:
    provider = {"baseUrl": url, "apiKey": "local", "api": "openai-completions", "models": [{"id": "default"}]}
    write(home / ".pi/agent/models.json", {"providers": {"skilldeck": provider}})
    return {"PI_OFFLINE": "1"}


def _qwen(home: Path, url: str, server: bool) -> dict[str, str]:
    # It sends everything through a proxy, this machine's own addresses too (NO_PROXY is not read).
    mcp = {"mcpServers": {MCP: {**STDIO, "trust": True}}} if server else {}
    write(home / ".qwen/settings.json", {"privacy": {"usageStatisticsEnabled": False}, **mcp})
    direct = {"HTTP_PROXY": "", "HTTPS_PROXY": ""}
    return {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "local", "OPENAI_MODEL": "default", **direct}


def _continue(home: Path, url: str, server: bool) -> dict[str, str]:
    model = {"name": "skilldeck", "provider": "openai", "model": "default", "apiBase": url, "apiKey": "local"}
    model |= {"roles": ["chat", "edit", "apply"], "capabilities": ["tool_use"]}
    mcp = {"mcpServers": [{"name": MCP, **STDIO}]} if server else {}
    # JSON is YAML.
    write(
        home / ".continue/config.yaml",
        {"name": "skilldeck", "version": "1.0.0", "schema": "v1", "models": [model], **mcp},
    )
    return {"CONTINUE_TELEMETRY_ENABLED": "0", "CONTINUE_CLI_ENABLE_TELEMETRY": "0"}


CODEX = ["--skip-git-repo-check"]
CLAUDE = ["--allowedTools", "Bash,Read,mcp__deck__add", "--mcp-config", "../home/mcp.json"]
PI = ["--provider", "skilldeck", "--model", "default"]
QWEN = ["--auth-type", "openai", "--approval-mode", "yolo"]
CONTINUE = ["--config", "../home/.continue/config.yaml", "--auto"]
AGENTS = [
    Agent(
        "codex",
        "@openai/codex",
        _codex,
        lambda text: ["exec", *CODEX, text],
        lambda text: ["exec", "resume", *CODEX, "--last", text],
        lambda command: Call("exec_command", {"cmd": command}),
        lambda path: Call("view_image", {"path": str(path)}),
    ),
    Agent(
        "claude",
        "@anthropic-ai/claude-code",
        _claude,
        lambda text: ["-p", text, *CLAUDE],
        lambda text: ["-p", "--continue", text, *CLAUDE],
        lambda command: Call("Bash", {"command": command, "description": "Look"}),
        lambda path: Call("Read", {"file_path": str(path)}),
    ),
    Agent(
        "opencode",
        "opencode-ai",
        _opencode,
        lambda text: ["run", text],
        lambda text: ["run", "--continue", text],
        lambda command: Call("bash", {"command": command, "description": "Look"}),
        lambda path: Call("read", {"filePath": str(path)}),
    ),
    Agent(
        "qwen",
        "@qwen-code/qwen-code",
        _qwen,
        lambda text: [*QWEN, "-p", text],
        lambda text: [*QWEN, "--continue", "-p", text],
        lambda command: Call("run_shell_command", {"command": command, "is_background": False}),
        lambda path: Call("read_file", {"file_path": str(path)}),
        search=Call("tool_search", {"query": f"select:mcp__{MCP}__add"}),
    ),
    Agent(
        "pi",
        "@mariozechner/pi-coding-agent",
        _pi,
        lambda text: [*PI, "-p", text],
        lambda text: [*PI, "--continue", "-p", text],
        lambda command: Call("bash", {"command": command}),
        lambda path: Call("read", {"path": str(path)}),
        servers=False,
    ),
    Agent(
        "cn",
        "@continuedev/cli",
        _continue,
        lambda text: [*CONTINUE, "-p", text],
        lambda text: [*CONTINUE, "--resume", "-p", text],
        lambda command: Call("Bash", {"command": command}),
        None,
    ),
]
