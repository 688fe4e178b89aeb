"""The build of llama.cpp for this processor: when it is used, and what goes on serving when it cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from skilldeck_daemon.engine.llamacpp import gguf, library, native, weights
from skilldeck_shared.errors import SkilldeckError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a build for this version would lie; nothing does."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    version = native._version()
    assert version is not None
    assert version[0].isdigit()
    return tmp_path / "skilldeck/llama.cpp" / version


def made(home: Path, **mark: str) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    (home / "made.json").write_text(json.dumps({"processor": native._processor(), **mark}))
    file = home / "libmtmd.so"
    file.write_bytes(b"no library")
    return file


def test_a_build_is_used_by_the_processor_and_the_version_it_was_made_for(home: Path) -> None:
    assert native.built() is None
    home.mkdir(parents=True)
    assert native.built() is None, "a build that was interrupted has no mark"
    file = made(home)
    assert native.built() == file
    assert native.described() == ", llama.cpp built for this processor"
    made(home, processor="another")
    assert native.built() is None
    made(home)
    home.rename(home.with_name("2020.1"))
    assert native.built() is None
    assert native.remove()
    assert not native.folder().exists()
    assert not native.remove()


def test_a_build_that_cannot_be_loaded_leaves_the_wheels(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    made(home)
    found = library.load.__wrapped__()
    assert found.path.name.startswith("xllamacpp")
    assert "build for this processor is not used" in caplog.text


def test_what_building_lacks_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SkilldeckError, match=r"needs cmake and c\+\+") as caught:
        native.build(lambda *_: None)
    assert "apt-get install cmake g++" in caught.value.hint


@pytest.mark.parametrize(
    ("kinds", "feature", "ours", "wanted", "expected"),
    [
        ({"Q4_K": 9, "Q6_K": 4}, True, True, "auto", False),
        ({"Q4_K": 9, "Q6_K": 4}, True, False, "auto", True),  # the wheel writes 27 % slower then, and reads 26 % faster
        ({"Q4_K": 9, "Q6_K": 4}, False, True, "auto", True),
        ({"Q4_K": 4, "Q8_0": 9}, True, True, "auto", True),  # nothing but the repacked form is read fast
        ({"F16": 9}, True, True, "auto", True),
        ({"Q4_K": 9}, True, True, "on", True),
        ({"Q8_0": 9}, False, False, "off", False),
    ],
)
def test_weights_are_laid_out_anew_unless_a_build_reads_them_faster_as_they_are(
    kinds: dict[str, int], feature: bool, ours: bool, wanted: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = {name: kind for kind, (name, _, _) in gguf._TYPES.items()}
    tensors = tuple(gguf.Tensor(name, (256, 64 * count), numbers[name], 0) for name, count in kinds.items())
    monkeypatch.setattr(native, "has", lambda name: feature and name == "avx512_vnni")
    loaded = library.load().path
    monkeypatch.setattr(native, "built", lambda: loaded if ours else None)
    assert weights.repacked(gguf.Gguf((Path("m.gguf"),), {}, tensors), wanted) is expected
