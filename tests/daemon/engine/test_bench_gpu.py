"""The GPU benchmark's own code, in small on CPU: exllamav2's real generator with its extension stubbed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from daemon.engine.exl_stub import exllamav2_missing, install_exllamav2
from skilldeck_daemon import cli
from skilldeck_daemon.bench import endless
from skilldeck_daemon.bench.suites import gpu
from skilldeck_daemon.engine.base import ModelSpec
from support.daemon import running
from support.wait import until

torch = pytest.importorskip("torch")
needs_exllamav2 = pytest.mark.skipif(bool(exllamav2_missing()), reason=exllamav2_missing() or "-")
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 416,
    "max_position_embeddings": 2048,
}


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_without_a_gpu_the_command_says_so() -> None:
    told = CliRunner().invoke(cli.app, ["bench", "--gpu"])
    assert told.exit_code == 1
    assert "no CUDA device" in told.stderr


@needs_exllamav2
async def test_the_arms_and_the_conversation_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from skilldeck_daemon.engine.exllama.bench import Bench, fabricate

    folder = fabricate(tmp_path / "made", **SMALL)
    engine = install_exllamav2(monkeypatch, folder)
    backend = engine._given
    await engine.load(ModelSpec(str(folder), "bench", {"context": 2048, "max_batch": 2}))
    # Where nothing computes that folder it is a model without end that is served: the arm only asks for tokens.
    served = endless.write(tmp_path / "endless.gguf")
    async with running(load=False, model=str(served), model_name="", engine_process="off") as daemon:
        await until(lambda: daemon.daemon.services.models.status().state == "ready", 60)
        bench = Bench(engine, backend, folder, 12, 24, daemon.url.removesuffix("/v1"))
        measured = await gpu.arms(bench, (1, 2), 1)
    assert [measure.name for measure in measured] == [
        f"{what}, {count}" for count in ("1 request at once", "2 requests at once") for what in ("engine", "daemon")
    ]
    assert all(measure.ratio and measure.ratio > 0 for measure in measured)
    assert "first token p50" in measured[1].note
    assert "between tokens p50" in measured[1].note
    computed, late, _ = await gpu.conversation(engine)
    await engine.unload()
    assert computed.ours[0] <= 0.05
    assert late.ours[0] <= 1


def test_providers_are_compared_with_the_reference_and_a_wrong_one_ends_the_suite(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error, _ = gpu.providers("cpu", torch.float32, samples=1)
    assert error.name == "gather: largest error"
    assert 0 < error.ours[0] < gpu.TOLERANCE

    def causal_no_more(*given: Any, **arguments: Any) -> Any:
        from skilldeck_daemon.engine.exllama import attention

        return attention.gather(*given, **{**arguments, "causal": False})

    monkeypatch.setattr("skilldeck_daemon.engine.exllama.attention.providers", lambda: {"broken": causal_no_more})
    with pytest.raises(gpu.WrongResult, match="broken is off by"):
        gpu.providers("cpu", torch.float32)


@needs_exllamav2
async def test_paged_log_probabilities_are_compared_with_transformers(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = install_exllamav2(monkeypatch, llama)
    await engine.load(ModelSpec(str(llama), "bench", {"context": 1024, "max_batch": 2}))
    measured = await gpu.logits(engine, llama, new=3)
    assert measured.ours[0] < 1e-3
    with torch.no_grad():
        engine._backend._model.model.model.norm.weight *= 1.5  # type: ignore[union-attr]
    with pytest.raises(gpu.WrongResult, match="off by"):
        await gpu.logits(engine, llama, new=3)
    await engine.unload()
