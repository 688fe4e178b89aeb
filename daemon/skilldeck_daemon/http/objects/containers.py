"""/containers and the files in them. Translates between HTTP and `Environments`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from skilldeck_daemon.http.body import boundary_of
from skilldeck_daemon.http.listing import envelope, paging
from skilldeck_daemon.http.multipart import FormLimits, read_form, read_object
from skilldeck_daemon.http.routing import Routes
from skilldeck_daemon.libraries.files import FILE_BYTES
from skilldeck_daemon.wire.fields import refuse
from skilldeck_shared.skills.bundle import MIB

if TYPE_CHECKING:
    from skilldeck_daemon.agent.services import Services
    from skilldeck_daemon.libraries.containers.environments import Environments

FORM = FormLimits(lambda name: name == "file", FILE_BYTES, FILE_BYTES + MIB, 20, "file")
CHUNK = 1 << 18


def router(services: Services) -> Routes:
    """The routes, without the `/v1` prefix."""
    api = Routes()
    environments = services.environments

    @api.post("/containers")
    async def create_container(request: Request) -> Response:
        return JSONResponse(await environments.create(await read_object(request)))

    @api.get("/containers")
    async def list_containers(request: Request) -> Response:
        page = await environments.list(*paging(request), name=request.query_params.get("name"))
        return JSONResponse(envelope(page, empty=""))

    @api.get("/containers/{container_id}")
    async def get_container(container_id: str) -> Response:
        return JSONResponse(await environments.get(container_id))

    @api.delete("/containers/{container_id}")
    async def delete_container(container_id: str) -> Response:
        return JSONResponse(await environments.delete(container_id))

    @api.post("/containers/{container_id}/files")
    async def create_file(request: Request, container_id: str) -> Response:
        headed = request.headers.get("content-type", "").lower().startswith("multipart/")
        if not headed and not await boundary_of(request):
            return JSONResponse(await environments.files.add_from(container_id, await read_object(request)))
        await environments.get(container_id)
        async with services.store.blobs.staging() as staging:
            form = await read_form(request, staging, FORM)
            found = [file.part for file in form.files if file.name == "file"]
            if len(found) != 1:
                if not found and form.fields.get("file_id"):
                    return JSONResponse(
                        await environments.files.add_from(container_id, {"file_id": form.fields["file_id"]})
                    )
                refuse("file", f"'file' must be one file, not {len(found)}.", code="missing_required_parameter")
            return JSONResponse(await environments.files.add(container_id, found[0].filename, found[0].path))

    @api.get("/containers/{container_id}/files")
    async def list_files(request: Request, container_id: str) -> Response:
        return JSONResponse(envelope(await environments.files.list(container_id, *paging(request)), empty=""))

    @api.get("/containers/{container_id}/files/{file_id}")
    async def get_file(container_id: str, file_id: str) -> Response:
        return JSONResponse(await environments.files.get(container_id, file_id))

    @api.delete("/containers/{container_id}/files/{file_id}")
    async def delete_file(container_id: str, file_id: str) -> Response:
        return JSONResponse(await environments.files.delete(container_id, file_id))

    @api.get("/containers/{container_id}/files/{file_id}/content")
    async def get_content(container_id: str, file_id: str) -> Response:
        return await container_file(environments, container_id, file_id)

    return api


async def container_file(environments: Environments, container_id: str, file_id: str) -> Response:
    """The answer that brings a container's file."""
    file, size, name = await environments.files.open(container_id, file_id)
    headers = {
        "content-length": str(size),
        "content-disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
    }
    return StreamingResponse(_chunks(file, size), media_type="application/octet-stream", headers=headers)


async def _chunks(file: BinaryIO, size: int) -> AsyncIterator[bytes]:
    """Exactly `size` bytes: the container may write to the file while it is sent."""
    with file:
        while size > 0 and (chunk := await asyncio.to_thread(file.read, min(CHUNK, size))):
            size -= len(chunk)
            yield chunk
