"""Files, skills and models as Anthropic's SDK knows them: the same library under Anthropic's shapes.

Anthropic's paths are OpenAI's (/v1/files, /v1/skills, /v1/models); its SDK is known by the header
`anthropic-version`, and `http/paths.py` sends what bears it here. A version's id is its number; a skill is called what
its SKILL.md says, whatever display name was sent. Files that code execution made (`cfile_…`) are read here as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from skilldeck_daemon.http.multipart import read_form
from skilldeck_daemon.http.objects import files as files_http
from skilldeck_daemon.http.objects import models as models_http
from skilldeck_daemon.http.objects import skills as skills_http
from skilldeck_daemon.http.objects.containers import container_file
from skilldeck_daemon.http.routing import Routes
from skilldeck_daemon.libraries.files import EXPIRY_SECONDS
from skilldeck_daemon.libraries.records import FileObject, SkillObject, VersionObject
from skilldeck_daemon.wire.error_names import Names
from skilldeck_daemon.wire.fields import Fields, refuse
from skilldeck_shared.errors import BadRequest, NotFound
from skilldeck_shared.json_types import JsonObject

if TYPE_CHECKING:
    from skilldeck_daemon.agent.services import Services
    from skilldeck_daemon.engine.base import ModelInfo
    from skilldeck_daemon.store import Page

MADE = "cfile_"
PAGE = 1000


def router(services: Services) -> Routes:
    """The routes, without the prefix."""
    api = Routes()
    _files(api, services)
    _skills(api, services)

    @api.get("/models")
    async def list_models() -> Response:
        found = [_model(info) for info in models_http.listed(services.models)]
        ends = {"first_id": found[0]["id"] if found else None, "last_id": found[-1]["id"] if found else None}
        return JSONResponse({"data": found, "has_more": False, **ends})

    @api.get("/models/{model:path}")
    async def get_model(model: str) -> Response:
        return JSONResponse(_model(models_http.one(services.models, model)))

    return api


# ------------------------------------------------------------------ files


def _files(api: Routes, services: Services) -> None:
    files, environments = services.files, services.environments

    async def shown(file: FileObject) -> JsonObject:
        media_type = await files.media_type(file["id"])
        return _file(
            file["id"], file["filename"], media_type, file["bytes"], file["created_at"], file.get("expires_at")
        )

    @api.post("/files")
    async def upload(request: Request) -> Response:
        async with services.store.blobs.staging() as staging:
            form = await read_form(request, staging, files_http.FORM)
            part = files_http.one_file(form)
            seconds = _expiry(form.fields.get("expires_in_seconds"))
            file = await files.create(part, filename=part.filename or "unnamed", expires_seconds=seconds)
        return JSONResponse(await shown(file))

    @api.get("/files")
    async def list_files(request: Request) -> Response:
        query = request.query_params
        if query.get("scope_id"):
            refuse("scope_id", "'scope_id' is not supported: files here belong to no session.", "Leave it out.")
        ids = [*query.getlist("ids"), *query.getlist("ids[]")]
        if ids:
            found = [file for id in dict.fromkeys(ids) if (file := await _or_none(services, id)) is not None]
            return JSONResponse({"data": [await shown(file) for file in found], "next_page": None})
        with Names(others={"after": "page"}).renamed():
            page = await files.list(_limit(request), "desc", query.get("page") or "")
        return JSONResponse(await _paged(page, shown))

    @api.get("/files/{file_id}")
    async def metadata(file_id: str) -> Response:
        if file_id.startswith(MADE):
            made = await environments.files.find(file_id)
            name = made["path"].rsplit("/", 1)[-1]
            return JSONResponse(
                _file(file_id, name, "application/octet-stream", made["bytes"], made["created_at"], None)
            )
        return JSONResponse(await shown(await files.get(file_id)))

    @api.delete("/files/{file_id}")
    async def delete(file_id: str) -> Response:
        if file_id.startswith(MADE):
            made = await environments.files.find(file_id)
            await environments.files.delete(made["container_id"], file_id)
        else:
            await files.delete(file_id)
        return JSONResponse({"id": file_id, "type": "file_deleted"})

    @api.get("/files/{file_id}/content")
    async def content(file_id: str) -> Response:
        if file_id.startswith(MADE):
            made = await environments.files.find(file_id)
            return await container_file(environments, made["container_id"], file_id)
        file = await files.get(file_id)
        return files_http.Download(
            await files.path(file_id),
            media_type="application/octet-stream",
            filename=file["filename"],
            headers={"x-content-type-options": "nosniff"},
        )


def _file(id: str, name: str, media_type: str, size: int, created: int, expires: int | None) -> JsonObject:
    return {
        "id": id,
        "type": "file",
        "filename": name,
        "mime_type": media_type,
        "size_bytes": size,
        "created_at": _time(created),
        "expires_at": None if expires is None else _time(expires),
        "downloadable": True,
    }


async def _or_none(services: Services, id: str) -> FileObject | None:
    try:
        return await services.files.get(id)
    except NotFound:
        return None


def _expiry(text: str | None) -> int | None:
    if not text:
        return None
    value: Any = int(text) if text.isascii() and text.isdigit() and len(text) < 16 else text
    low, high = EXPIRY_SECONDS
    return Fields({"expires_in_seconds": value}).integer("expires_in_seconds", minimum=low, maximum=high)


# ------------------------------------------------------------------ skills


def _skills(api: Routes, services: Services) -> None:
    skills = services.skills

    async def shown(skill: SkillObject) -> JsonObject:
        latest = await skills.version(skill["id"], skill["latest_version"])
        return {
            "id": skill["id"],
            "type": "skill",
            "display_name": skill["name"],
            "display_title": skill["name"],
            "created_at": _time(skill["created_at"]),
            "updated_at": _time(latest["created_at"]),
            "latest_version_id": skill["latest_version"],
            "latest_version": skill["latest_version"],
            "source": {"type": "custom"},
        }

    @api.post("/skills")
    async def create(request: Request) -> Response:
        async with services.store.blobs.staging() as staging:
            form = await read_form(request, staging, skills_http.FORM)
            return JSONResponse(await shown(await skills.create(skills_http.uploaded(form))))

    @api.get("/skills")
    async def list_skills(request: Request) -> Response:
        limit = _limit(request)
        if (request.query_params.get("source") or "custom") != "custom":
            return JSONResponse({"data": [], "next_page": None, "has_more": False})
        with Names(others={"after": "page"}).renamed():
            page = await skills.list(limit, "desc", request.query_params.get("page") or "")
        return JSONResponse(await _paged(page, shown))

    @api.get("/skills/{skill_id}")
    async def retrieve(skill_id: str) -> Response:
        return JSONResponse(await shown(await skills.get(skill_id)))

    @api.delete("/skills/{skill_id}")
    async def delete(skill_id: str) -> Response:
        # A client of Anthropic's deletes every version first, in any order, and then the skill, which here went with
        # its last version.
        if not await skills.delete_emptied(skill_id):
            await skills.delete(skill_id)
        return JSONResponse({"id": skill_id, "type": "skill_deleted"})

    @api.post("/skills/{skill_id}/versions")
    async def create_version(skill_id: str, request: Request) -> Response:
        async with services.store.blobs.staging() as staging:
            form = await read_form(request, staging, skills_http.FORM)
            # Anthropic's skills have no default version: what is uploaded last serves.
            return JSONResponse(_version(await skills.add_version(skill_id, skills_http.uploaded(form), default=True)))

    @api.get("/skills/{skill_id}/versions")
    async def list_versions(skill_id: str, request: Request) -> Response:
        async def shown(version: VersionObject) -> JsonObject:
            return _version(version)

        with Names(others={"after": "page"}).renamed():
            page = await skills.versions(skill_id, _limit(request), "desc", request.query_params.get("page") or "")
        return JSONResponse(await _paged(page, shown))

    @api.get("/skills/{skill_id}/versions/{version}")
    async def retrieve_version(skill_id: str, version: str) -> Response:
        return JSONResponse(_version(await skills.version(skill_id, version)))

    @api.delete("/skills/{skill_id}/versions/{version}")
    async def delete_version(skill_id: str, version: str) -> Response:
        newest = (await skills.versions(skill_id, 2, "desc", "")).data
        others = [entry["version"] for entry in newest if entry["version"] != version]
        if others and (await skills.get(skill_id))["default_version"] == version:
            await skills.version(skill_id, version)  # 404 before anything is changed
            await skills.set_default(skill_id, others[0])
        await skills.delete_version(skill_id, version)
        return JSONResponse({"id": version, "type": "skill_version_deleted"})

    @api.get("/skills/{skill_id}/versions/{version}/content")
    async def download_version(skill_id: str, version: str) -> Response:
        return skills_http.download(await skills.content(skill_id, version))


def _version(version: VersionObject) -> JsonObject:
    return {
        "id": version["version"],
        "type": "skill_version",
        "skill_id": version["skill_id"],
        "version": version["version"],
        "name": version["name"],
        "directory": version["name"],
        "description": version["description"],
        "created_at": _time(version["created_at"]),
    }


# ------------------------------------------------------------------ models and lists


def _model(info: ModelInfo) -> JsonObject:
    known = {"max_input_tokens": info.context, "max_tokens": info.context} if info.context else {}
    return {
        "id": info.name,
        "type": "model",
        "display_name": info.name,
        "created_at": _time(info.created),
        "lifecycle": "active",
        **known,
    }


def _limit(request: Request) -> int:
    text = request.query_params.get("limit") or "20"
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= PAGE):
        raise BadRequest(f"'limit' is {text[:32]!r}.", f"It must be a whole number from 1 to {PAGE}.", param="limit")
    return int(text)


async def _paged(page: Page[Any], shown: Callable[[Any], Awaitable[JsonObject]]) -> JsonObject:
    """The id of the last object leads to the next page."""
    rows = [await shown(entry) for entry in page.data]
    return {
        "data": rows,
        "next_page": page.data[-1]["id"] if page.has_more else None,
        "has_more": page.has_more,
    }


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
