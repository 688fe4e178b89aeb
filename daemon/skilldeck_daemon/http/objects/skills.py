"""/skills: upload, versions, default, download, delete. Translates between HTTP and `SkillLibrary`."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from skilldeck_daemon.http.listing import envelope, paging
from skilldeck_daemon.http.multipart import Form, FormLimits, read_form, read_object
from skilldeck_daemon.http.routing import Routes
from skilldeck_daemon.wire.fields import Fields, refuse
from skilldeck_shared.skills.bundle import LIMITS, MIB, BundleError

if TYPE_CHECKING:
    from skilldeck_daemon.agent.services import Services
    from skilldeck_daemon.libraries.skill_results import Content
    from skilldeck_daemon.skills.reader import UploadPart


def _is_file_field(name: str) -> bool:
    # SDKs send `files[]` for a list and `files` for one; the published examples post a zip as `file`.
    return name.split("[", 1)[0] in ("files", "file")


# Single files may be larger together than a zip of them; what the version may hold is checked when it is read.
FORM = FormLimits(
    _is_file_field, LIMITS.zip_bytes, LIMITS.total_bytes + 4 * MIB, LIMITS.files + 20, "files", hash_zips=False
)


def router(services: Services) -> Routes:
    """The routes, without the `/v1` prefix."""
    api = Routes()
    skills = services.skills

    @api.post("/skills")
    async def create_skill(request: Request) -> Response:
        async with services.store.blobs.staging() as staging:
            form = await read_form(request, staging, FORM)
            return JSONResponse(await skills.create(uploaded(form)))

    @api.get("/skills")
    async def list_skills(request: Request) -> Response:
        return JSONResponse(envelope(await skills.list(*paging(request, minimum=0))))

    @api.get("/skills/{skill_id}")
    async def get_skill(skill_id: str) -> Response:
        return JSONResponse(await skills.get(skill_id))

    @api.post("/skills/{skill_id}")
    async def update_skill(skill_id: str, request: Request) -> Response:
        fields = Fields(await read_object(request))
        version = fields.value.get("default_version")
        if version is None:
            message = "Missing required parameter: 'default_version'."
            refuse("default_version", message, code="missing_required_parameter")
        if isinstance(version, bool) or not isinstance(version, int | str) or version == "":
            refuse("default_version", "'default_version' must be a version number or \"latest\".", code="invalid_type")
        return JSONResponse(await skills.set_default(skill_id, version))

    @api.delete("/skills/{skill_id}")
    async def delete_skill(skill_id: str) -> Response:
        return JSONResponse(await skills.delete(skill_id))

    @api.get("/skills/{skill_id}/content")
    async def get_content(skill_id: str) -> Response:
        return download(await skills.content(skill_id))

    @api.post("/skills/{skill_id}/versions")
    async def create_version(skill_id: str, request: Request) -> Response:
        async with services.store.blobs.staging() as staging:
            form = await read_form(request, staging, FORM)
            default = _flag(form, "default")
            return JSONResponse(await skills.add_version(skill_id, uploaded(form), default=default))

    @api.get("/skills/{skill_id}/versions")
    async def list_versions(skill_id: str, request: Request) -> Response:
        return JSONResponse(envelope(await skills.versions(skill_id, *paging(request, minimum=0))))

    @api.get("/skills/{skill_id}/versions/{version}")
    async def get_version(skill_id: str, version: str) -> Response:
        return JSONResponse(await skills.version(skill_id, version))

    @api.delete("/skills/{skill_id}/versions/{version}")
    async def delete_version(skill_id: str, version: str) -> Response:
        return JSONResponse(await skills.delete_version(skill_id, version))

    @api.get("/skills/{skill_id}/versions/{version}/environment")
    async def get_environment(skill_id: str, version: str) -> Response:
        return JSONResponse(await skills.environment(skill_id, version))

    @api.get("/skills/{skill_id}/versions/{version}/content")
    async def get_version_content(skill_id: str, version: str) -> Response:
        return download(await skills.content(skill_id, version))

    return api


def uploaded(form: Form) -> list[UploadPart]:
    """The files of a skill's form."""
    parts = []
    for file in form.files:
        if not _is_file_field(file.name):
            hint = "Send the skill's files, or one zip, in the form field 'files'."
            raise BundleError(f"The form field {file.name[:64]!r} is not known.", hint)
        parts.append(file.part)
    return parts


def _flag(form: Form, name: str) -> bool:
    value = form.fields.get(name, "").strip().lower()
    if value not in ("", "true", "false", "1", "0"):
        refuse(name, f"'{name}' is {value[:32]!r}.", "Use true or false.", "invalid_value")
    return value in ("true", "1")


def download(content: Content) -> Response:
    """The answer that brings a zip."""
    headers = {
        "content-length": str(content.size),
        "content-disposition": f"attachment; filename*=UTF-8''{quote(content.filename)}",
    }
    return StreamingResponse(content.chunks, media_type="application/zip", headers=headers)
