"""The calls that tests of skills need: evaluations and trials as the daemon keeps them, and commands of checks."""

from __future__ import annotations

import json
from collections.abc import Sequence

from skilldeck_shared.proto import control_pb2 as pb
from skilldeck_tui.client.calls import Calls
from skilldeck_tui.client.types import Object, Page, objects, parse


class EvaluationCalls(Calls):
    """Objects are those of docs/evals.md. Progress comes by `Client.subscribe`, topics `evaluation` and `trial`."""

    async def put_evaluation(self, evaluation: Object) -> Object:
        """Keep a new evaluation, or (with an `id`) its new state; see docs/evals.md."""
        return await self._json(self._stub.PutEvaluation, pb.Json(json=json.dumps(evaluation)))

    async def evaluation(self, evaluation_id: str) -> Object:
        return await self._json(self._stub.GetEvaluation, pb.Ref(id=evaluation_id))

    async def evaluations(self, *, limit: int = 100, after: str = "", order: str = "desc", skill: str = "") -> Page:
        return await self._page(self._stub.ListEvaluations, limit, after, order, skill)

    async def delete_evaluation(self, evaluation_id: str) -> Object:
        """Delete it with its trials; the runs stay."""
        return await self._json(self._stub.DeleteEvaluation, pb.Ref(id=evaluation_id))

    async def add_trial(self, trial: Object) -> Object:
        return await self._json(self._stub.AddTrial, pb.Json(json=json.dumps(trial)))

    async def trials(
        self,
        evaluation_id: str = "",
        *,
        skill: str = "",
        keys: Sequence[str] = (),
        limit: int = 1000,
        after: str = "",
        order: str = "asc",
    ) -> Page:
        """Trials of an evaluation, of a skill (by name) or of these keys, oldest first."""
        request = pb.TrialsRequest(
            evaluation=evaluation_id, skill=skill, keys=keys, limit=limit, after=after, order=order
        )
        reply = await self._call(self._stub.ListTrials, request)
        return Page(objects(reply), reply.has_more)

    async def exec_in_container(self, container_id: str, command: str, *, timeout_s: float = 60.0) -> Object:
        """Run one command in a container as a run left it (empty: a new one, which goes at once); returns {stdout,
        stderr, exit_code, timed_out}."""
        request = pb.ExecRequest(container_id=container_id, command=command, timeout_ms=int(timeout_s * 1000))
        reply = await self._call(self._stub.ExecInContainer, request, timeout=timeout_s + 60)
        return parse(reply.json)
