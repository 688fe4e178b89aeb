"""/approvals (an addition to OpenAI's API): commands that wait for a person, and the rules people made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from skilldeck_daemon.http.listing import envelope
from skilldeck_daemon.http.multipart import read_object
from skilldeck_daemon.http.routing import Routes
from skilldeck_daemon.store import Page
from skilldeck_daemon.wire.fields import Fields

if TYPE_CHECKING:
    from skilldeck_daemon.agent.services import Services


def router(services: Services) -> Routes:
    """The routes, without the `/v1` prefix."""
    api = Routes()
    approvals = services.approvals

    @api.get("/approvals")
    async def list_approvals() -> Response:
        return JSONResponse(envelope(Page(approvals.list())))

    @api.get("/approvals/rules")
    async def list_rules() -> Response:
        return JSONResponse(envelope(Page(await approvals.rules())))

    @api.post("/approvals/rules/{rule_id}")
    async def change_rule(request: Request, rule_id: str) -> Response:
        fields = Fields(await read_object(request))
        return JSONResponse(await approvals.change(rule_id, fields.needed("prefix")))

    @api.delete("/approvals/rules/{rule_id}")
    async def revoke_rule(rule_id: str) -> Response:
        return JSONResponse(await approvals.revoke(rule_id))

    @api.post("/approvals/{approval_id}")
    async def decide(request: Request, approval_id: str) -> Response:
        fields = Fields(await read_object(request))
        decided = await approvals.decide(
            approval_id,
            fields.needed("decision", choices=("approve", "deny")),
            remember_for_session=fields.boolean("remember_for_session"),
            remember_always=fields.boolean("remember_always"),
            message=fields.string("message", maximum=4096) or "",
            prefix=fields.string("prefix", maximum=4096) or "",
        )
        return JSONResponse(decided)

    return api
