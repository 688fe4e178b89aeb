"""llama.cpp built once for the processor at hand, from the source of the very version the wheel is of.

The wheel is made for any processor with AVX2; one with AVX-512 reads prompts faster in a build of its own. It is made
by `skilldeckd models build-engine`, kept in the cache, and used from then on while it fits the wheel's version and the
processor: on another one it could not run.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from skilldeck_daemon.engine.base import Progress
from skilldeck_shared import paths
from skilldeck_shared.errors import SkilldeckError, Unavailable

PACKAGE = "xllamacpp"
_FILE, _MARK = "libmtmd.so", "made.json"
_OFF = ("COMMON", "TESTS", "TOOLS", "EXAMPLES", "SERVER", "APP", "UI")
_CONFIGURED = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=ON",
    "-DGGML_NATIVE=ON",
    "-DLLAMA_BUILD_MTMD=ON",
    "-DLLAMA_OPENSSL=OFF",
    "-DCMAKE_BUILD_RPATH_USE_ORIGIN=ON",
    *(f"-DLLAMA_BUILD_{part}=OFF" for part in _OFF),
)
_CHECK = "import sys; from skilldeck_daemon.engine.llamacpp import library; library.Library(library.Path(sys.argv[1]))"


def folder() -> Path:
    """Where builds are kept, one for each version."""
    return paths.cache_dir() / "llama.cpp"


def built() -> Path | None:
    """The library of a build for this processor and the wheel's version; None where there is none."""
    if not folder().is_dir():
        return None
    home = folder() / (_version() or "none")
    try:
        mark = json.loads((home / _MARK).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    fits = isinstance(mark, dict) and mark.get("processor") == _processor()
    return home / _FILE if fits and (home / _FILE).is_file() else None


def build(report: Progress, threads: int = 0) -> Path:
    """Fetch the source, build it, try it; minutes. Raises a SkilldeckError naming what is missing or what failed."""
    version = _version()
    if version is None:
        raise SkilldeckError(f"{PACKAGE} is not installed.", "Run: pip install 'skilldeck[daemon]'.")
    missing = [name for name in ("cmake", "c++") if shutil.which(name) is None]
    if missing:
        raise SkilldeckError(
            f"Building needs {' and '.join(missing)}.", "Install them, on Debian: apt-get install cmake g++ make."
        )
    threads = threads or len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="skilldeck-llama-") as name:
        work = Path(name)
        report(0.0, f"fetching the source of {PACKAGE} {version}")
        _run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
             "--no-binary", PACKAGE, "--dest", name, f"{PACKAGE}=={version}"], work,
        )  # fmt: skip
        source = _unpacked(work)
        report(0.05, "configuring")
        _run(["cmake", "-S", str(source), "-B", str(work / "build"), *_CONFIGURED], work)
        report(0.1, f"building with {threads} threads: some minutes")
        _run(["cmake", "--build", str(work / "build"), "--target", "mtmd", "-j", str(threads)], work)
        report(0.95, "trying it")
        made = work / "made"
        made.mkdir()
        for file in (work / "build").rglob("*.so*"):
            shutil.copy2(file, made / file.name, follow_symlinks=False)
        _run([sys.executable, "-c", _CHECK, str(made / _FILE)], work)
        (made / _MARK).write_text(json.dumps({"version": version, "processor": _processor()}), "utf-8")
        home = folder() / version
        home.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(home, ignore_errors=True)
        shutil.move(made, home)
    report(1.0, "built")
    return home / _FILE


def described() -> str:
    """What a person may want to know of the build in use, to follow the engine's name; empty for nothing."""
    if built() is not None:
        return ", llama.cpp built for this processor"
    wide = has("avx512f")
    return "; `skilldeckd models build-engine` makes it read prompts faster on this processor" if wide else ""


def has(feature: str) -> bool:
    """Whether the processor has a feature, by the name that Linux gives it; False where nobody says."""
    try:
        return f" {feature} " in Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return False


def remove() -> bool:
    """Delete all builds; whether there was one."""
    there = folder().is_dir()
    shutil.rmtree(folder(), ignore_errors=True)
    return there


def _unpacked(work: Path) -> Path:
    """llama.cpp's folder in the source that was fetched."""
    (archive,) = work.glob(f"{PACKAGE}-*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(work, filter="data")
    found = sorted(work.glob("*/thirdparty/llama.cpp"))
    if not found:
        raise SkilldeckError(f"{archive.name} holds no llama.cpp.", "Go on with the wheel's own build.")
    return found[0]


def _run(command: Sequence[str], work: Path) -> None:
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, errors="replace")
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-12:]
        raise Unavailable(
            f"{Path(command[0]).name} failed: {' / '.join(said)}", "The wheel's own build goes on serving."
        )


def _version() -> str | None:
    """The wheel's, by the name of its folder: reading its metadata takes twenty times as long."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    found = sorted(Path(spec.origin).parent.parent.glob(f"{PACKAGE}-*.dist-info"))
    return found[0].name.removeprefix(f"{PACKAGE}-").removesuffix(".dist-info") if found else None


def _processor() -> str:
    """What a build is for: model and features."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    parts = [
        next((line for line in lines if line.startswith(word)), "") for word in ("model name", "flags", "Features")
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
