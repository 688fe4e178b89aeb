"""/uploads: large files in parts. Translates between HTTP and `FileLibrary`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from skilldeck_daemon.http.multipart import FormLimits, read_form, read_object
from skilldeck_daemon.http.routing import Routes
from skilldeck_daemon.libraries.files import PART_BYTES
from skilldeck_daemon.wire.fields import Fields, refuse
from skilldeck_shared.skills.bundle import MIB

if TYPE_CHECKING:
    from skilldeck_daemon.agent.services import Services

FORM = FormLimits(lambda name: name == "data", PART_BYTES, PART_BYTES + MIB, 20, "data")


def router(services: Services) -> Routes:
    """The routes, without the `/v1` prefix."""
    api = Routes()
    files = services.files

    @api.post("/uploads")
    async def create_upload(request: Request) -> Response:
        return JSONResponse(await files.create_upload(Fields(await read_object(request))))

    @api.post("/uploads/{upload_id}/parts")
    async def add_part(upload_id: str, request: Request) -> Response:
        await files.get_upload(upload_id)
        async with services.store.blobs.staging() as staging:
            form = await read_form(request, staging, FORM)
            found = [file.part for file in form.files if file.name == "data"]
            if len(found) != 1:
                refuse("data", f"The form has {len(found)} parts named 'data'.", "Send exactly one.")
            return JSONResponse(await files.add_part(upload_id, found[0]))

    @api.post("/uploads/{upload_id}/complete")
    async def complete(upload_id: str, request: Request) -> Response:
        fields = Fields(await read_object(request))
        part_ids = fields.strings("part_ids", required=True, maximum=100_000)
        return JSONResponse(await files.complete(upload_id, part_ids, fields.string("md5", maximum=64)))

    @api.post("/uploads/{upload_id}/cancel")
    async def cancel(upload_id: str) -> Response:
        return JSONResponse(await files.cancel(upload_id))

    return api
