"""The benchmarks measure real parts, in small, and their reports hold what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from daemon.containers.support import needs_bwrap
from skilldeck_daemon.bench import references, report
from skilldeck_daemon.bench.measure import Measure, interleaved, spread
from skilldeck_daemon.bench.sse_client import together
from skilldeck_daemon.bench.suites import containers, evaluations, neighbours, server, store, uploads
from skilldeck_daemon.engine.models import registry


async def test_arms_are_interleaved_forth_and_back_after_a_warm_up() -> None:
    order: list[str] = []

    def arm(name: str):  # type: ignore[no-untyped-def]
        async def sample() -> float:
            order.append(name)
            return float(len(order))

        return sample

    samples = await interleaved({"a": arm("a"), "b": arm("b")}, rounds=2)
    assert "".join(order) == "ab" + "ab" + "ba"
    assert samples == {"a": (3.0, 6.0), "b": (4.0, 5.0)}


def test_the_spread_of_samples() -> None:
    assert spread([4, 1, 3, 2, 5]) == {"n": 5, "median": 3, "p25": 2, "p75": 4, "p95": pytest.approx(4.8)}


def test_reports_show_the_ratio_and_the_reference() -> None:
    measures = [Measure("Calls", "call | true", "ms", (2.0, 4.0), "bare", (6.0,), goal="≤ 5 ms", note="quiet")]
    data = json.loads(report.to_json(measures))["measures"][0]
    assert (data["ratio"], data["reference"]["name"], data["ours"]["median"]) == (0.5, "bare", 3.0)
    assert "ratio 0.50 to bare: 6 ms" in report.to_text(measures)
    assert "| call \\| true | 3 ms (2.5–3.5, n=2) | bare: 6 ms | 0.50 | ≤ 5 ms |" in report.to_markdown(measures)
    assert "call | true / bare" in report.to_svg(measures)


def test_reports_show_the_95th_percentile_of_enough_samples() -> None:
    samples = tuple(float(n) for n in range(1, 22))
    text = report.to_text([Measure("Calls", "call", "ms", samples, "bare", tuple(2 * n for n in samples))])
    assert "11 ms (6–16, p95 20, n=21)" in text
    assert "bare: 22 ms (p95 40)" in text


@needs_bwrap
async def test_containers_are_measured_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    measures = await containers.measure("", 1, calls=2, many=2, flood="4M", ballast=1024)
    assert {measure.suite for measure in measures} == {"Containers"}
    ratios = [measure.ratio for measure in measures if measure.theirs]
    assert len(ratios) == 6
    assert all(ratio is not None and ratio > 0 for ratio in ratios)
    assert list(tmp_path.iterdir()) == []


async def test_uploads_and_the_store_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "BUNDLE_BYTES", 40_000)
    measured = await uploads.measure("", 1) + await store.measure("", 1, (20, 2, 20))
    assert list(dict.fromkeys(measure.name for measure in measured)) == [
        "skill version",
        "file",
        *("GET /responses/ID", "GET /skills/ID", "GET /skills/ID/versions", "GET /skills, first page"),
        "GET /skills, page in the middle",
        "the newest 20 runs",
    ]
    assert all(min(measure.ours) > 0 for measure in measured)


async def test_results_of_tests_are_loaded_and_shown_by_a_client_in_a_process_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluations, "TRIALS", 3)
    loaded, shown = await evaluations._loading(1)
    assert (loaded.name, len(loaded.ours), len(loaded.theirs)) == ("3 results loaded", 1, 1)
    assert (shown.name, len(shown.ours)) == ("3 results shown", 1)


async def test_the_server_is_measured_against_its_own_engine() -> None:
    measured = await server.measure("tiny", 1, streams=(2,), new=64, reference=False)
    assert [measure.name for measure in measured] == [
        "2 streams, while all write",
        "2 streams, the whole request of 64 tokens",
        "processor time a token, 2 streams",
        "of it the server's, 2 streams",
        "processor time a run beside its tokens, 2 streams",
    ]
    streaming, whole, *_ = measured
    assert streaming.ratio is not None
    assert streaming.ratio > 0
    # A request begins before its first token and ends after its last.
    assert whole.ours[0] < 2 * streaming.ours[0]


async def test_decoding_beside_busy_processes_is_held_to_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "CROWD", 1)
    (measured,) = await neighbours.measure("tiny", 1)
    share = float(measured.reference.partition("%")[0]) / 100
    assert 0.5 <= share < 1, "one thread beside a process a core"
    assert measured.ratio is not None
    assert measured.ratio > 0


def test_a_rate_is_of_the_time_in_which_all_streams_write() -> None:
    assert together([[(0.0, 1), (1.0, 5), (2.0, 5)], [(1.0, 1), (2.0, 7), (3.0, 5)]]) == 12
    assert together([[(0.0, 1), (2.0, 4), (4.0, 4)]]) == 2
    assert together([[(0.0, 1), (1.0, 4)], [(2.0, 1), (4.0, 4)]]) == 2.25, "never at once: from first to last"
    assert together([[(1.0, 16)]]) == 0, "all in one piece"


async def test_a_reference_that_is_not_here_says_so(tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text('#!/bin/sh\necho \'{"error": "ValueError: shape mismatch"}\'\n')
    script.chmod(0o755)
    with pytest.raises(references.Absent, match="cannot run this model: ValueError: shape mismatch"):
        async with references.wheel(registry.tiny_file(), script):
            pass


def test_the_wheel_is_shown_a_llama_with_wide_heads_as_the_mistral_it_computes_like(tmp_path: Path) -> None:
    folder = references.weights(registry.tiny_file())
    shown = references._readable(folder, tmp_path / "view")
    config = json.loads((shown / "config.json").read_text())
    assert (config["model_type"], config["head_dim"]) == ("mistral", 64)
    assert (shown / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
