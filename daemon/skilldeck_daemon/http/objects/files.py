"""/files: upload, list, download, delete. Translates between HTTP and `FileLibrary`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from skilldeck_daemon.http.errors import error_response
from skilldeck_daemon.http.listing import envelope, paging
from skilldeck_daemon.http.multipart import Form, FormLimits, read_form
from skilldeck_daemon.http.routing import Routes
from skilldeck_daemon.libraries.files import FILE_BYTES, check_purpose, expiry
from skilldeck_daemon.wire.fields import Fields, refuse
from skilldeck_shared.errors import BadRequest
from skilldeck_shared.json_types import JsonObject
from skilldeck_shared.skills.bundle import MIB

if TYPE_CHECKING:
    from skilldeck_daemon.agent.services import Services
    from skilldeck_daemon.skills.reader import UploadPart

FORM = FormLimits(lambda name: name == "file", FILE_BYTES, FILE_BYTES + MIB, 20, "file")


def router(services: Services) -> Routes:
    """The routes, without the `/v1` prefix."""
    api = Routes()
    files = services.files

    @api.post("/files")
    async def create_file(request: Request) -> Response:
        async with services.store.blobs.staging() as staging:
            form = await read_form(request, staging, FORM)
            part = one_file(form)
            purpose = form.fields.get("purpose", "")
            if not purpose:
                refuse("purpose", "Missing required parameter: 'purpose'.", code="missing_required_parameter")
            check_purpose(purpose, "purpose")
            seconds = _expires_after(form)
            file = await files.create(part, filename=part.filename, purpose=purpose, expires_seconds=seconds)
        return JSONResponse(file)

    @api.get("/files")
    async def list_files(request: Request) -> Response:
        purpose = request.query_params.get("purpose") or None
        page = await files.list(*paging(request, limit=10_000, maximum=10_000), purpose=purpose)
        return JSONResponse(envelope(page, empty=""))

    @api.get("/files/{file_id}")
    async def get_file(file_id: str) -> Response:
        return JSONResponse(await files.get(file_id))

    @api.delete("/files/{file_id}")
    async def delete_file(file_id: str) -> Response:
        return JSONResponse(await files.delete(file_id))

    @api.get("/files/{file_id}/content")
    async def get_content(file_id: str) -> Response:
        file = await files.get(file_id)
        # Never the uploader's media type: a browser would run an uploaded page as ours.
        return Download(
            await files.path(file_id),
            media_type="application/octet-stream",
            filename=file["filename"],
            headers={"x-content-type-options": "nosniff"},
        )

    return api


class Download(FileResponse):
    """A file, whole or the ranges that are asked for; ranges that are not there are refused like all that is wrong."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused: Message | None = None

        async def pass_on(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] >= 400:
                refused = message
            if refused is None:
                await send(message)

        await super().__call__(scope, receive, pass_on)
        if refused is None:
            return
        error = BadRequest("The Range header names no part of this file.", "Ask for 'bytes=FIRST-LAST'.", param="range")
        error.status = refused["status"]
        answer = error_response(error)
        if "content-range" in (given := Headers(raw=refused["headers"])):
            answer.headers["content-range"] = given["content-range"]
        await answer(scope, receive, send)


def one_file(form: Form) -> UploadPart:
    """The form's `file`."""
    found = [file.part for file in form.files if file.name == "file"]
    if not found:
        refuse("file", "Missing required parameter: 'file'.", code="missing_required_parameter")
    if len(found) > 1:
        refuse("file", "More than one file was sent.", "Send one file a request.")
    return found[0]


def _expires_after(form: Form) -> int | None:
    """`expires_after[anchor]` and `expires_after[seconds]`, as SDKs flatten the object into form fields."""
    given: JsonObject = {
        name[len("expires_after[") : -1]: value
        for name, value in form.fields.items()
        if name.startswith("expires_after[") and name.endswith("]")
    }
    if not given:
        return None
    seconds = given.get("seconds", "")
    if seconds.isascii() and seconds.isdigit() and len(seconds) < 16:
        given["seconds"] = int(seconds)
    return expiry(Fields(given, "expires_after"))
