"""What a matrix is asked for, and the plan of it: names of models and versions looked up, before anything runs.

plan = await make_plan(client, folder, load_cases(folder), Asked(runs=3, without_skill=True))
done = await evaluate(client, plan, finished=show)      # runner.py; every try is kept as it ends
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from skilldeck_tui.client.client import Client
from skilldeck_tui.client.types import Object
from skilldeck_tui.skill_tests.cases import Case
from skilldeck_tui.skill_tests.matrix.models import SOURCE, Models
from skilldeck_tui.skill_tests.matrix.plan import Plan
from skilldeck_tui.skill_tests.matrix.variants import LATEST, Versions, among_of, installed

SEEDS = 1 << 31


@dataclass(frozen=True)
class Asked:
    """What the options say of a matrix. `against`: the version that must not have been better. `trigger`:
    the skill stands among all that the daemon has."""

    models: tuple[str, ...] = ("default",)
    versions: tuple[str, ...] = (LATEST,)
    without_skill: bool = False
    among: Path | None = None
    runs: int = 1
    seed: int | None = None
    judge: str = ""
    jobs: int = 1
    only: str = ""
    again: bool = False
    allow: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    against: str = ""
    min_pass: float | None = None
    trigger: bool = False


async def make_plan(
    client: Client, folder: Path, cases: Sequence[Case], asked: Asked, *, environment: Object | None = None
) -> Plan:
    """Look up everything a matrix needs: models, versions, the skills around. Raises what is missing, by name.

    `environment`: further fields of the environment that commands run in.
    """
    models = Models(client)
    found = [await models.find(name) for name in asked.models]
    chosen = list({model["id"]: model for model in found}.values())  # an alias may be one that was named
    judge = await models.find(asked.judge, "judge") if asked.judge else None
    versions = Versions(client, folder)
    skill = await versions.name()
    if asked.among is not None:
        versions.among = await among_of(client, asked.among, skill)
    elif asked.trigger:
        versions.among = await installed(client, skill)
    names = list(dict.fromkeys([*([asked.against] if asked.against else []), *asked.versions]))
    resolved = [await versions.resolve(name) for name in names]
    variants = list({variant.label: variant for variant in resolved}.values())  # "default" may be one that was named
    if asked.without_skill:
        variants.append(await versions.baseline())
    seed = random.randrange(SEEDS) if asked.seed is None else asked.seed
    return Plan(
        folder,
        skill,
        cases,
        chosen,
        variants,
        asked.runs,
        seed,
        str(judge["id"]) if judge else "",
        environment or {},
        versions.among.names,
        {str(one["id"]): str(one[SOURCE]) for one in [*chosen, judge or {}] if one.get(SOURCE)},
    )
