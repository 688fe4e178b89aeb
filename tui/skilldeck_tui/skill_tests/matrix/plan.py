"""What an evaluation is going to ask: tests × models × variants × runs, each try with the key of its question."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skilldeck_tui.client.types import Object
from skilldeck_tui.skill_tests.cases import Case
from skilldeck_tui.skill_tests.matrix.variants import Variant

IDENTITY = ("id", "engine", "family", "path", "quantization", "size")
"""What makes a served model the same model: its name and where it comes from, not when it was loaded."""


@dataclass(frozen=True)
class Try:
    """One try of one test in one column. `number` counts from 0; `seed` is that of its sampling (None: any)."""

    case: Case
    model: str
    variant: Variant
    number: int
    seed: int | None
    key: str
    checks_key: str


@dataclass
class Plan:
    """An evaluation before it runs.

    `models` are the models' objects as the daemon serves them, `environment` further fields of the environment that
    commands run in, `judge` the model that judges sentences (empty: none); `sources` says of models that nothing serves
    yet what to load, by the name they are served as.
    """

    folder: Path
    skill: str
    cases: Sequence[Case]
    models: Sequence[Object]
    variants: Sequence[Variant]
    runs: int = 1
    seed: int = 0
    judge: str = ""
    environment: Object = field(default_factory=dict)
    among: Sequence[str] = ()
    sources: Mapping[str, str] = field(default_factory=dict)

    def tries(self) -> list[Try]:
        """All of them: model after model (each may have to be loaded), and within one the columns side by side, so that
        what warms up warms up for all."""
        asked = {case.key: _asked(case) for case in self.cases}
        checks = {case.key: digest([[c.kind, c.spec] for c in case.checks] + [self.judge]) for case in self.cases}
        return [
            Try(
                case,
                str(model["id"]),
                variant,
                number,
                self.seed + number,
                self._key(asked[case.key], model, variant, self.seed + number),
                checks[case.key],
            )
            for model in self.models
            for number in range(self.runs)
            for case in self.cases
            for variant in self.variants
        ]

    def _key(self, asked: Any, model: Object, variant: Variant, seed: int) -> str:
        identity = {name: model.get(name) for name in IDENTITY}
        return digest([identity, asked, variant.digests, variant.baseline, self.environment, seed])

    def key(self, *, seeded: bool) -> str:
        """Of the whole: what an interrupted evaluation is found again by. `seeded`: the seed was asked for."""
        tries = Plan(**{**vars(self), "seed": self.seed if seeded else 0}).tries()
        return digest([str(self.folder.resolve()), [(one.key, one.checks_key) for one in tries]])

    def as_json(self) -> Object:
        """The part of the evaluation object that the plan decides."""
        return {
            "skill": self.skill,
            "folder": str(self.folder.resolve()),
            "seed": self.seed,
            "runs": self.runs,
            "judge": self.judge,
            "among": list(self.among),
            "tests": [{"source": case.source, "name": case.name} for case in self.cases],
            "models": [str(model["id"]) for model in self.models],
            "variants": [variant.as_json() for variant in self.variants],
            "total": len(self.cases) * len(self.models) * len(self.variants) * self.runs,
        }


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _asked(case: Case) -> list[Any]:
    """What a test puts to the model. Blocks on the disk."""
    files = [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in case.files]
    return [case.prompt, files, case.problem, *(["probe"] if case.probe else [])]
