"""One try: the request, the run watched to its end, what happened held against the checks.

The result is a trial as docs/evals.md describes it, without the fields that keeping it adds. Runs stay in the daemon,
to be looked at; the uploads attached to the prompt are deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from skilldeck_shared.errors import SkilldeckError
from skilldeck_tui.client.client import Client
from skilldeck_tui.client.types import Object, RunEvent
from skilldeck_tui.skill_tests.cases import Case, Verdict, overall, short
from skilldeck_tui.skill_tests.checking.checks import hold
from skilldeck_tui.skill_tests.checking.judge import judge_sentences
from skilldeck_tui.skill_tests.checking.outcome import Outcome, named, read_outcome
from skilldeck_tui.skill_tests.matrix.plan import Try
from skilldeck_tui.skill_tests.written.expect import COMPLETED

ASKED = "skilldeck_test"
"""The metadata of a run that holds the key of its question: a client that was killed cannot say which run was whose."""
KEPT_ANSWER = 4000
KEPT_COMMANDS = 40
KEPT_FILES = 100
KEPT_CHECKS = 100


class Attachments:
    """Files of tests, uploaded once however many tries attach them. `close` deletes the uploads; runs keep what they
    read. `told` hears of each upload's id before it is used."""

    def __init__(self, client: Client, told: Callable[[str], Awaitable[None]] | None = None) -> None:
        self._client, self._told = client, told
        self._uploads: dict[Path, asyncio.Task[str]] = {}

    async def id(self, path: Path) -> str:
        """The upload's id. Raises what uploading raises."""
        if path not in self._uploads:
            self._uploads[path] = asyncio.create_task(self._upload(path))
        return await asyncio.shield(self._uploads[path])

    async def _upload(self, path: Path) -> str:
        id_ = str((await self._client.upload_file(path))["id"])
        if self._told is not None:
            await self._told(id_)
        return id_

    async def close(self) -> None:
        for upload in self._uploads.values():
            with suppress(SkilldeckError):
                await self._client.delete_file(await upload)


async def run_trial(
    client: Client,
    one: Try,
    skill: str,
    *,
    environment: Object | None = None,
    judge: str = "",
    attachments: Attachments | None = None,
    over: Callable[[], None] | None = None,
) -> Object:
    """Run one try. Errors of the run are its result; only cancelling ends it early, and cancels the run.

    Args:
        attachments: shared by many tries; without it the try has its own.
        over: called when no model works for it any more: what follows is looking.
    """
    if one.case.problem:
        return not_run(one, skill, one.case.problem)
    loop = asyncio.get_running_loop()
    began, run_id = loop.time(), ""
    uploads = attachments or Attachments(client)
    try:
        content: list[Object] = [{"type": "input_text", "text": one.case.prompt}]
        for path in one.case.files:
            # Its name, too: the upload goes, and the run is looked at later.
            content.append({"type": "input_file", "file_id": await uploads.id(path), "filename": path.name})
        shell = {"type": "container_auto", "skills": list(one.variant.skills), **(environment or {})}
        request = {
            "model": one.model,
            "input": [{"type": "message", "role": "user", "content": content}],
            "tools": [{"type": "shell", "environment": shell}],
            **({"seed": one.seed} if one.seed is not None else {}),
            "metadata": {"title": f"{skill}: {one.case.name}"[:500], ASKED: one.key},
        }
        run_id = str((await client.start_run(request, origin="test"))["id"])
        if one.case.probe:
            return await _probed(client, one, skill, run_id)
        response = await watched(client, run_id, one.case.timeout)
        if over is not None and not judge:
            over()
        seen = read_outcome(client, skill, one.case.prompt, response, (await client.run(run_id)).timeline)
        return await _held(one, skill, seen, run_id, judge)
    except TimeoutError:
        failed = Verdict(COMPLETED, "failed", f"the run did not end within {one.case.timeout:g} s")
        return _result(one, skill, "failed", [failed], run_id=run_id, seconds=loop.time() - began)
    except SkilldeckError as error:
        # Nothing is known of what the model can: neither passed nor failed, and tried again the next time.
        failed = Verdict(COMPLETED, "failed", str(error))
        return _result(one, skill, "error", [failed], run_id=run_id, seconds=loop.time() - began)
    finally:
        if attachments is None:
            await uploads.close()


async def judge_again(client: Client, one: Try, skill: str, run_id: str, judge: str = "") -> Object:
    """Hold other checks against a run that was made before. Raises NotFound when it is gone, and ContainerGone when a
    check needs its files and they are."""
    detail = await client.run(run_id)
    seen = read_outcome(client, skill, one.case.prompt, detail.response, detail.timeline)
    if any(check.kind in ("file", "script") for check in one.case.checks):
        await seen.files()
    return {**await _held(one, skill, seen, run_id, judge), "reused": True}


async def gone_on_with(client: Client, one: Try, skill: str, run_id: str, judge: str = "") -> Object | None:
    """The result of a run that a client began which was killed; None when it did not complete either."""
    response = await watched(client, run_id, one.case.timeout)
    if response.get("status") != "completed":
        return None
    seen = read_outcome(client, skill, one.case.prompt, response, (await client.run(run_id)).timeline)
    return await _held(one, skill, seen, run_id, judge)


async def _probed(client: Client, one: Try, skill: str, run_id: str) -> Object:
    """What is known once the skill is opened, or at the run's end; what then is left of the run is cancelled."""
    detail = await client.run(run_id)
    if skill in (detail.timeline.get("opened") or ()):
        with suppress(SkilldeckError):
            await client.cancel_run(run_id)
    else:
        await watched(client, run_id, one.case.timeout, until=skill)
    detail = await client.run(run_id)
    seen = read_outcome(client, skill, one.case.prompt, detail.response, detail.timeline)
    if skill not in seen.opened and seen.status not in ("completed", "incomplete"):
        return not_run(one, skill, f"the run ended as {seen.status}: {seen.why}") | {"run_id": run_id}
    return await _held(one, skill, seen, run_id, "")


async def watched(client: Client, run_id: str, timeout: float, *, until: str = "") -> Object:
    """The response a run ended with; a run that takes too long, or whose test is cancelled, is cancelled.

    Args:
        until: a skill; a run whose command names its files is cancelled there, and {} returned.
    """
    try:
        async with asyncio.timeout(timeout):
            async for event in client.follow_run(run_id):
                if event.terminal:
                    return dict(event.data.get("response") or {})
                if until and until in named(_commands_of(event)):
                    with suppress(SkilldeckError):
                        await client.cancel_run(run_id)
                    return {}
    except (TimeoutError, asyncio.CancelledError):
        with suppress(SkilldeckError):
            await asyncio.shield(client.cancel_run(run_id))
        raise
    raise SkilldeckError("The run's events ended without a last one.")


def _commands_of(event: RunEvent) -> list[str]:
    """Of a shell call that is written."""
    item = event.data.get("item") or {} if event.type == "response.output_item.done" else {}
    return [str(command) for command in (item.get("action") or {}).get("commands") or ()]


async def verdicts_of(case: Case, seen: Outcome, *, judge: str = "", baseline: bool = False) -> list[Verdict]:
    """Every check, the run's own end first. Without the skill nobody asks whether it was opened."""
    asked = [check for check in case.checks if not (baseline and check.kind == "triggered")]
    verdicts = [] if case.probe else [await hold(COMPLETED, seen)]
    for check in asked:
        if not (check.judged and judge):
            verdicts.append(await hold(check, seen))
    if judge:
        verdicts += await judge_sentences(judge, case, [check for check in asked if check.judged], seen)
    return verdicts


async def _held(one: Try, skill: str, seen: Outcome, run_id: str, judge: str) -> Object:
    verdicts = await verdicts_of(one.case, seen, judge=judge, baseline=one.variant.baseline)
    names: list[str] = []
    with suppress(SkilldeckError):
        names = sorted(await seen.files())[:KEPT_FILES]
    return _result(
        one,
        skill,
        # Without the skill, a test that only asks whether it was opened asks nothing.
        "not_judged" if one.case.checks and all(v.check is COMPLETED for v in verdicts) else overall(verdicts),
        verdicts,
        run_id=run_id,
        seconds=round(seen.seconds, 3),
        model_seconds=round(seen.model_seconds, 3),
        input_tokens=seen.input_tokens,
        cached_tokens=seen.cached_tokens,
        output_tokens=seen.output_tokens,
        turns=seen.turns,
        triggered=None if one.variant.baseline else skill in seen.opened,
        opened=sorted(seen.opened),
        commands=[{"command": short(c, 400), "exit_code": code} for c, code in seen.commands[:KEPT_COMMANDS]],
        files=names,
        answer=short(seen.answer, KEPT_ANSWER),
    )


def not_run(one: Try, skill: str, why: str) -> Object:
    """A try that nothing could be asked of."""
    return _result(one, skill, "error", [Verdict(COMPLETED, "failed", f"it cannot be run: {why}")])


def _result(one: Try, skill: str, status: str, verdicts: list[Verdict], **more: Any) -> Object:
    trial: Object = {
        "skill": skill,
        "source": one.case.source,
        "test": one.case.name,
        "model": one.model,
        "variant": one.variant.label,
        "version": one.variant.version,
        "digest": one.variant.digest,
        "baseline": one.variant.baseline,
        "number": one.number,
        "seed": one.seed,
        "key": one.key,
        "checks_key": one.checks_key,
        "status": status,
        "checks": [verdict.as_json() for verdict in verdicts[:KEPT_CHECKS]],
        "seconds": 0.0,
        "model_seconds": 0.0,
        "input_tokens": 0,
        "cached_tokens": 0,
        "output_tokens": 0,
        "turns": 0,
        "triggered": None,
        "opened": [],
        "reused": False,
        "run_id": "",
        "commands": [],
        "files": [],
        "answer": "",
    }
    return trial | more
