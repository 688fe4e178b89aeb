"""Inline skills: a zip as base64 inside a request, checked field by field."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from skilldeck_daemon.skills.reader import Bundle, UploadPart, read_upload
from skilldeck_shared.errors import BadRequest, SkilldeckError, TooLarge
from skilldeck_shared.json_types import JsonObject
from skilldeck_shared.skills.bundle import LIMITS
from skilldeck_shared.skills.zipnames import KIND_BYTES, other_archive


def inline_data(skill: JsonObject, param: str) -> str:
    """The base64 text of an inline skill {type, name, description, source{type, media_type, data}}.

    Args:
        skill: the object as the client sent it.
        param: where it stood in the request; errors name the field below it.
    Raises:
        BadRequest: a field is missing or wrong. TooLarge: more characters than allowed.
    """
    for key in ("name", "description"):
        if not isinstance(skill.get(key), str):
            raise BadRequest(f"An inline skill needs its {key}.", param=f"{param}.{key}")
    source = skill.get("source")
    if not isinstance(source, dict):
        hint = 'Send {"type": "base64", "media_type": "application/zip", "data": …}.'
        raise BadRequest("An inline skill needs a source.", hint, param=f"{param}.source")
    for key, wanted in (("type", "base64"), ("media_type", "application/zip")):
        if source.get(key) != wanted:
            raise BadRequest(f"{key} must be {wanted!r}.", param=f"{param}.source.{key}")
    data = source.get("data")
    if not isinstance(data, str) or not data:
        raise BadRequest("An inline skill needs its zip as base64.", param=f"{param}.source.data")
    if len(data) > LIMITS.inline_characters:
        raise TooLarge(
            f"The inline skill has {len(data):,} characters; at most {LIMITS.inline_characters:,} are allowed.",
            "Upload it with POST /v1/skills and refer to it.",
            param=f"{param}.source.data",
        )
    return data


def read_inline(skill: JsonObject, data: str, staging: Path, param: str) -> Bundle:
    """Decode and read it; its name and description must be those of its SKILL.md. Blocks: run it in a thread.

    Raises:
        BadRequest: naming `param`.source.data, .name or .description.
    """
    try:
        bundle = _read(data, staging)
    except SkilldeckError as error:
        error.param = f"{param}.source.data"
        raise
    for key, found in (("name", bundle.manifest.name), ("description", bundle.manifest.description)):
        if skill[key].strip() != found:
            raise BadRequest(
                f"The inline skill's {key} differs from the one in its SKILL.md ({found[:80]!r}).",
                "Send the same text in both.",
                param=f"{param}.{key}",
            )
    return bundle


def _read(data: str, staging: Path) -> Bundle:
    try:
        decoded = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"The inline skill is not base64: {error}.", "Encode the zip's bytes as base64.") from error
    if not decoded.startswith(b"PK"):
        kind = other_archive(decoded[:KIND_BYTES])
        raise BadRequest(f"The inline skill is {kind or 'not a zip'}.", "Encode the bytes of a zip file.")
    path = staging / "inline.zip"
    path.write_bytes(decoded)
    return read_upload([UploadPart("inline.zip", path, len(decoded))], staging)
