"""The soak in small: the same clients, tides and restarts as `python -m soak`, for two minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.containers.support import needs_bwrap
from soak.__main__ import Soak, soak
from soak.daemon import Sample
from soak.ledger import Entry

CLIENTS = 16


@needs_bwrap
@pytest.mark.slow
async def test_nothing_is_lost_and_nothing_hangs_over_restarts(tmp_path: Path) -> None:
    result = await soak(tmp_path, seconds=120, clients=CLIENTS, tide=5, seed=7)
    assert result.faults == []
    assert result.ledger.lost == []
    assert result.restarts >= 1
    assert result.tally["skill_run"] > 0
    assert result.ledger.checked >= len(result.ledger.entries)
    # Four a container that is open, and what the daemon itself holds.
    assert max(sample.descriptors for sample in result.samples) < 60 + 4 * (CLIENTS + 8)


def test_growth_compares_the_end_of_the_last_life_with_its_warm_beginning() -> None:
    def life(number: int, *resident: int) -> list[Sample]:
        return [Sample(number, 0.0, value, value) for value in resident]

    result = Soak(samples=life(1, 900, 990) + life(2, 50, 80, 100, 100, 100, 100, 103, 103))
    assert result.growth() == {"resident": pytest.approx(1.03), "descriptors": pytest.approx(1.03)}


async def test_a_lost_object_is_told() -> None:
    import httpx

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/responses/resp_live":
            return httpx.Response(200, json={"id": "resp_live", "status": "in_progress"})
        return httpx.Response(404, json={})

    ledger = Soak().ledger
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://x") as http:
        await ledger.check(http, ledger.add(Entry("file", "file_1")))
        await ledger.check(http, ledger.add(Entry("file", "file_2", state="gone")))
        await ledger.check(http, ledger.add(Entry("response", "resp_live")))
    assert ledger.lost == ["file file_1 answers 404", "response resp_live is in_progress and no run is live"]
