"""`skilldeck rules`: the commands that are never asked about again, changed and revoked."""

from __future__ import annotations

from typing import Annotated

import typer

from skilldeck_tui.cli import output as out
from skilldeck_tui.cli.common import Json, connected
from skilldeck_tui.client.types import Object

rules_app = typer.Typer(
    name="rules", help="Commands that are never asked about again.", no_args_is_help=False, invoke_without_command=True
)
RuleId = Annotated[str, typer.Argument(help="The rule's id, as `skilldeck rules` lists it.")]


@rules_app.callback()
def listed(ctx: typer.Context, json: Json = False) -> None:
    """List what was allowed always; each rule also covers its command with more plain arguments."""
    if ctx.invoked_subcommand is not None:
        return

    async def work() -> None:
        async with connected(ctx, start=True) as client:
            found = await client.rules()
        if json:
            out.data_json(found)
            return
        out.table(
            [(r["id"], r["kind"], out.safe(covers(r)), skills(r), out.when(r["created_at"])) for r in found],
            ("ID", "KIND", "COMMANDS THAT BEGIN WITH", "SKILLS", "SINCE"),
        )
        if not found:
            out.note("Nothing is allowed always.", "dim")

    out.perform(work(), json)


@rules_app.command()
def edit(
    ctx: typer.Context,
    rule: RuleId,
    prefix: Annotated[str, typer.Argument(help="The words that commands begin with, or a folder with its slash.")],
    json: Json = False,
) -> None:
    """Change what a rule covers."""

    async def work() -> None:
        async with connected(ctx, start=True) as client:
            changed = await client.change_rule(rule, prefix)
        out.data_json(changed) if json else out.data(out.safe(f"{changed['id']} covers {covers(changed)}"))

    out.perform(work(), json)


@rules_app.command()
def revoke(ctx: typer.Context, rules: Annotated[list[str], typer.Argument(help="Ids.")], json: Json = False) -> None:
    """Ask again from now on."""

    async def work() -> None:
        async with connected(ctx, start=True) as client:
            for rule in rules:
                gone = await client.revoke_rule(rule)
                out.data_json(gone) if json else out.data(f"{rule} is revoked")

    out.perform(work(), json)


def covers(rule: Object) -> str:
    """What a rule covers, on one line."""
    return " ⏎ ".join(str(rule["prefix"]).splitlines())


def skills(rule: Object) -> str:
    """The skills whose present content it vouches for."""
    return ", ".join(str(skill.get("name")) for skill in rule.get("skills") or [])
