"""`skilldeckd models`: ls, pull, info, rm over the model folders of this machine; no daemon is asked.

stdout is data: a table, a path, or JSON with --json. Progress goes to stderr: one line that is rewritten on a
terminal, a line for each tenth elsewhere. HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE are honoured.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skilldeck_daemon.settings import load_settings
from skilldeck_shared.errors import SkilldeckError
from skilldeck_shared.terminal import live, say

if TYPE_CHECKING:
    from skilldeck_daemon.engine.models.registry import StoredModel

models_app = typer.Typer(help="Models on this machine.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Name = Annotated[str, typer.Argument(help="'tiny', a folder, a .gguf file, or a name that `ls` shows.")]
HubId = Annotated[str, typer.Argument(help="Hugging Face id like Qwen/Qwen3-0.6B-GGUF:Q8_0, or id@revision.")]


@models_app.command("ls")
def ls(as_json: AsJson = False) -> None:
    """List the models on this machine: the bundled one, our downloads, then those of other programs."""
    from skilldeck_daemon.engine.models import registry

    found = registry.ls(_models())
    if as_json:
        say(json.dumps([registry.stored_object(model) for model in found]))
        return
    width = max([len(model.id) for model in found], default=0)
    for model in found:
        about = f"{_size(model.size):>9}  {model.context:>7} tokens  {_kind(model):<14}  {model.origin}"
        say(f"{model.id:<{width}}  {about}".rstrip())


@models_app.command("info")
def info(model: Name, as_json: AsJson = False) -> None:
    """Say what a model on this machine is and where it lies."""
    from skilldeck_daemon.engine.models import registry

    found = registry.info(model, _models())
    shown = {**registry.stored_object(found), "tool_text": _tool_text(found.family)}
    shown |= _calls(found)
    if as_json:
        say(json.dumps(shown))
        return
    shown["size"] = _size(found.size)
    if shown["engine"] == "llamacpp-embeddings":
        shown["description"] = "Makes embeddings (/v1/embeddings) and writes no text."
    elif not found.template:
        shown["description"] = "No chat template: it continues text (/v1/completions) and does not chat."
    for name, value in shown.items():
        if value:
            say(f"{name:<13} {value}")


@models_app.command("pull")
def pull(
    model: HubId,
    mmproj: Annotated[bool, typer.Option("--mmproj", help="A GGUF's projector, too: it reads images then.")] = False,
    as_json: AsJson = False,
) -> None:
    """Download a model, or go on with a download that stopped; prints its folder."""
    from skilldeck_daemon.engine.models import registry

    show = _Progress()
    try:
        path = registry.pull(model, show, _models(), images=mmproj)
    finally:
        show.end()
    stored = registry.stored_object(registry.info(model, _models()))
    if trouble := stored.get("trouble"):
        say(str(trouble), file=sys.stderr)
    say(json.dumps(stored) if as_json else str(path))


@models_app.command("rm")
def rm(model: HubId, as_json: AsJson = False) -> None:
    """Delete a downloaded model."""
    from skilldeck_daemon.engine.models import registry

    freed = registry.rm(model, _models())
    say(json.dumps({"id": model, "deleted": True, "freed": freed}) if as_json else f"freed {_size(freed)}")


@models_app.command("build-engine")
def build_engine(
    remove: Annotated[bool, typer.Option("--remove", help="Go back to the wheel's own build.")] = False,
    threads: Annotated[int, typer.Option(help="Of the build; 0: as many as there are processors.", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Build llama.cpp for this processor, once: prompts are read faster where it has more than AVX2. Minutes; needs
    cmake and a C++ compiler. The next model that is loaded is computed by it."""
    from skilldeck_daemon.engine.llamacpp import native

    if remove:
        there = native.remove()
        say(json.dumps({"removed": there}) if as_json else "removed" if there else "there was none")
        return
    show = _Progress()
    try:
        path = native.build(show, threads)
    finally:
        show.end()
    say(json.dumps({"path": str(path)}) if as_json else str(path))


class _Progress:
    """What a download says, on stderr."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._shown = -1
        self._begun = time.monotonic()

    def __call__(self, fraction: float, stage: str) -> None:
        if self._live:
            seconds = time.monotonic() - self._begun
            live(f"{fraction:6.1%} {stage} ({seconds:.0f} s)", sys.stderr)
        elif int(fraction * 10) > self._shown:
            self._shown = int(fraction * 10)
            say(f"{fraction:4.0%} {stage}", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._live:
            say(file=sys.stderr)


def _tool_text(family_name: str) -> str:
    """Whether calls in the model's text would be read: auto or off."""
    from skilldeck_daemon.engine import families

    reads = family_name not in (*families.known(), families.GENERIC) or families.family(family_name).text_calls
    return load_settings().tool_text if reads else "off"


def _calls(model: StoredModel) -> dict[str, str]:
    """How the model would write its calls: the family whose form is read (tool_parser), and how it would call the shell
    (call_style), as JSON or by a block of commands. Nothing for one without a template, or that cannot be read."""
    from skilldeck_daemon.engine import families
    from skilldeck_daemon.engine.chat import styles
    from skilldeck_daemon.engine.chat.files import ModelFiles

    settings = load_settings()
    if not model.template:
        return {}
    try:
        files = ModelFiles.load(Path(model.path))
    except SkilldeckError:
        return {}
    source, named = files.template.source, settings.tool_parser
    family = families.detect(source, files.model_type) if named == families.AUTO else families.family(named, source)
    wanted = styles.JSON if settings.tool_text == "off" else settings.call_style
    return {
        "tool_parser": family.name,
        "call_style": styles.choose(wanted, family, files.template, model.parameters),
    }


def _kind(model: StoredModel) -> str:
    return f"{model.family} {model.quantization}".strip()


def _size(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _models() -> Path:
    return load_settings().data_dir / "models"
