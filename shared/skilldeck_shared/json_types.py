"""JSON whose shape is somebody else's. What has a shape of ours is a record (`store/records.py`, `wire/records.py`)."""

from __future__ import annotations

from typing import Any

JsonObject = dict[str, Any]
"""An object as it was sent or is passed on: a body, a schema, a call's arguments, another server's answer."""
