"""The options that give commands a network: `--allow`, `--env`."""

from __future__ import annotations

from typing import Annotated

import typer

Allow = Annotated[
    list[str] | None,
    typer.Option("--allow", help="A host commands may reach; *.example.org for its subdomains. Repeatable."),
]
Env = Annotated[
    list[str] | None,
    typer.Option(
        "--env",
        help="A variable whose value is put into requests to those hosts; commands see a placeholder. Repeatable.",
    ),
]
