"""Where skilldeck keeps things (XDG), the same for the daemon and its clients. Nothing here creates a path."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path


def _xdg(variable: str, fallback: str) -> Path:
    value = os.environ.get(variable, "")
    # The XDG specification asks applications to ignore relative values.
    base = Path(value) if value.startswith("/") else Path.home() / fallback
    return base / "skilldeck"


def expanded(path: str | Path) -> Path:
    """A path as a person writes it, `~` being the home; as it stands where there is no such user."""
    return Path(os.path.expanduser(path))


def config_file() -> Path:
    """`~/.config/skilldeck/config.toml`."""
    return _xdg("XDG_CONFIG_HOME", ".config") / "config.toml"


def data_dir() -> Path:
    """`~/.local/share/skilldeck`: database, blobs, containers, models."""
    return _xdg("XDG_DATA_HOME", ".local/share")


def state_dir() -> Path:
    """`~/.local/state/skilldeck`: logs, locks, the client's own state."""
    return _xdg("XDG_STATE_HOME", ".local/state")


def cache_dir() -> Path:
    """`~/.cache/skilldeck`: what can be made again."""
    return _xdg("XDG_CACHE_HOME", ".cache")


def runtime_dir() -> Path:
    """Directory of the control socket, 0700: `$XDG_RUNTIME_DIR/skilldeck`, else one per user in the temp dir."""
    value = os.environ.get("XDG_RUNTIME_DIR", "")
    if value.startswith("/"):
        return Path(value) / "skilldeck"
    return Path(tempfile.gettempdir()) / f"skilldeck-{os.getuid()}"


def socket_path() -> Path:
    """The control socket: `$SKILLDECK_SOCKET`, else `daemon.sock` in `runtime_dir()`."""
    value = os.environ.get("SKILLDECK_SOCKET", "")
    return Path(value).expanduser() if value else runtime_dir() / "daemon.sock"


def examples_dir() -> Path:
    """The example skills: `skills-examples` of a checkout, else where the wheel put them."""
    checkout = Path(__file__).resolve().parents[2] / "skills-examples"
    return checkout if checkout.is_dir() else Path(sys.prefix) / "share/skilldeck/skills-examples"
