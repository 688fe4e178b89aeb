"""The packages that commands find, in layers: the interpreter, the base over it, the environments of skills over both.

Every way to start the interpreter finds all of them, without PYTHONPATH: they stand in for the folder that it has its
own packages in. Of several skills' environments the one whose program runs, or in whose folder it runs, comes first.
`pip install` in a container goes to the home and comes before everything. Nothing is started here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from skilldeck_daemon.containers.spec import SKILLS, Environment

BASE_PLACE = "/run/base"
ENVIRONMENTS = "/run/environments"
HOST_PACKAGES = "/run/packages"
"""Where the interpreter's own packages are shown, when environments stand in for their folder and there is no base."""
NODE_MODULES = "/mnt/node_modules"
"""What `import` of a module in /mnt/data and /mnt/skills finds; it does not look at NODE_PATH."""
PYTHON, NODE = "python", "node/node_modules"
"""Folders of an environment."""

# The pip of a virtual environment writes into it, which is read-only; the interpreter's own falls back to the home.
# What it unpacks goes there, too: /tmp is a quarter of the container's memory, and some packages are larger.
_PIP = """#!/bin/sh
if [ "$TMPDIR" = /tmp ]; then
    export TMPDIR="$HOME/.cache/tmp"
    mkdir -p "$TMPDIR"
fi
exec python3 -m pip "$@"
"""
# Published skills say `uv run scripts/x.py`. Without a network uv could bring nothing, and would fail; what the program
# needs is in the interpreter's layers.
_UV = """#!/bin/sh
if [ "$1" = run ] && [ -z "$https_proxy" ]; then
    shift
    script=
    while [ $# -gt 0 ]; do
        case "$1" in
            -) exec python3 "$@" ;;
            --) shift; break ;;
            -m|--module) shift; exec python3 -m "$@" ;;
            -s|--script) script=1; shift ;;
            --with|--with-requirements|--with-editable|-p|--python|--index|--index-url|--extra-index-url|--extra|\\
            --group|--project|--directory|--env-file|--cache-dir|--refresh-package) shift; [ $# -gt 0 ] && shift ;;
            -*) shift ;;
            *) break ;;
        esac
    done
    case "$1" in
        "") ;;
        *.py|http://*|https://*) exec python3 "$@" ;;
        *) if [ "$script" ]; then exec python3 "$@"; else exec "$@"; fi ;;
    esac
fi
# Published skills say `uv pip install X` without an environment. The interpreter's own folder is read-only; what is
# installed in the home comes before it, as with pip.
if [ "$1" = pip ] && [ -z "$VIRTUAL_ENV" ] && [ ! -e .venv ]; then
    case "$2" in
        install|uninstall)
            verb=$2
            place=
            shift 2
            for word; do
                shift
                case "$word" in
                    --system|--break-system-packages|--user) continue ;;
                    -t|--target|--target=*|--prefix|--prefix=*|-p|--python|--python=*) place=given ;;
                esac
                set -- "$@" "$word"
            done
            [ "$place" ] || set -- --prefix "$HOME/.local" --python /run/bin/python3 "$@"
            set -- pip "$verb" "$@"
            ;;
    esac
fi
IFS=:
for folder in $PATH; do
    if [ "$folder" != /run/bin ] && [ -x "$folder/uv" ]; then exec "$folder/uv" "$@"; fi
done
echo "uv is not in this sandbox: skilldeckd sandbox build brings it" >&2
exit 127
"""
# npm takes the nearest folder above that has node_modules for the project. From /mnt/data that would be NODE_MODULES,
# which is read-only.
_NPM = """#!/bin/sh
case "$PWD/" in /mnt/*) here=$PWD ;; *) here= ;; esac
for word; do
    case "$word" in -g|--global|--global=*|--location=*|--prefix|--prefix=*|-C) here= ;; esac
done
folder=$here
while [ "$folder" ] && [ "$folder" != /mnt ]; do
    if [ -e "$folder/package.json" ] || [ -d "$folder/node_modules" ]; then here=; fi
    folder=${folder%/*}
done
[ "$here" ] && set -- --prefix "$here" "$@"
IFS=:
for folder in $PATH; do
    if [ "$folder" != /run/bin ] && [ -x "$folder/npm" ]; then exec "$folder/npm" "$@"; fi
done
echo "npm is not in this sandbox" >&2
exit 127
"""
# Runs at every start of the interpreter, from a .pth file: nothing is imported that a start does not have anyway.
_ORDER = """
import os, site, sys
def add(table, rest):
    try:
        here = os.getcwd()
    except OSError:
        here = "/"
    paths = [here + "/", *(os.path.join(here, word) for word in sys.orig_argv[1:])]
    paths = [os.path.normpath(path) + "/" for path in paths]
    mine = [place for place, owners in table if any(path.startswith(owner) for path in paths for owner in owners)]
    for place in dict.fromkeys([*mine, *(place for place, _ in table), *rest]):
        site.addsitedir(place)
    # Programs of a skill that import its folders as packages (`from scripts.lib import x`) are run by their path, too.
    for path in paths[1:]:
        if path.startswith("/mnt/skills/") and path.endswith(".py/"):
            parts = path.split("/")[:-3]
            sys.path += ["/".join(parts[:count]) for count in range(len(parts), 3, -1)]
"""


@dataclass(frozen=True)
class Python:
    """The interpreter inside: its path, and the prefix to bind when it lies outside /usr."""

    executable: Path
    prefix: Path | None


@dataclass(frozen=True)
class Base:
    """Packages that commands find beside the bare interpreter: a virtual environment, or a whole prefix (`bases.py`).

    Those of a virtual environment stand in for the folder that `python` itself has its packages in: what is installed
    for the host's interpreter, the daemon perhaps among it, is not seen.
    """

    folder: Path
    place: str
    """Where it is shown, read-only."""
    python: Python
    """The interpreter that `python3` is."""
    site: str = ""
    """Its packages, below `place`; empty for a prefix, whose interpreter knows them."""
    over: str = ""
    """The folder of the interpreter that packages stand in for."""


def place_of(environment: Environment) -> str:
    """Where an environment is shown, read-only."""
    return f"{ENVIRONMENTS}/{environment.digest[:16]}"


def arguments(
    python: Python, over: str, base: Base | None, environments: Sequence[Environment], data: Callable[[str, bytes], str]
) -> list[str]:
    """The part of bwrap's command line that shows the packages.

    Args:
        python, over: the interpreter without a base, and the folder of its packages ("" when that is not known).
        data: a descriptor, as text, that reads a content.
    """
    chosen = base.python if base is not None else python
    argv = []
    for alias in ("python3", "python"):
        argv += ["--symlink", str(chosen.executable), f"/run/bin/{alias}"]
    site = bool(base is not None and base.site)
    if base is not None and site:
        argv += ["--ro-bind", str(base.folder), base.place]
    if base is not None or os.path.exists("/usr/bin/pip3"):
        for alias in ("pip3", "pip"):
            argv += ["--perms", "0555", "--ro-bind-data", data("pip", _PIP.encode()), f"/run/bin/{alias}"]
    if base is not None or environments:
        argv += ["--perms", "0555", "--ro-bind-data", data("uv", _UV.encode()), "/run/bin/uv"]
    if environments:
        argv += ["--perms", "0755", "--dir", ENVIRONMENTS]
        for environment in environments:
            argv += ["--ro-bind", str(environment.folder), place_of(environment)]
    over = base.over if base is not None else over
    if over and (site or environments):
        rest = [f"{base.place}/{base.site}"] if base is not None and site else [HOST_PACKAGES]
        if not site:
            argv += ["--ro-bind-try", over, HOST_PACKAGES]
        table = [(f"{place_of(one)}/{PYTHON}", owners(one)) for one in environments]
        line = f"import sandbox_layers; sandbox_layers.add({table!r}, {rest!r})\n"
        argv += ["--size", "262144", "--tmpfs", over]
        for name, text in (("sandbox_layers.py", _ORDER), ("sandbox.pth", line)):
            argv += ["--perms", "0444", "--ro-bind-data", data("path", text.encode()), f"{over}/{name}"]
        argv += ["--remount-ro", over]
    node = _node(base, environments)
    if node:
        node += ["--perms", "0555", "--ro-bind-data", data("npm", _NPM.encode()), "/run/bin/npm"]
    return argv + node


def owners(environment: Environment) -> list[str]:
    """The folders whose programs have an environment before the others."""
    return [f"{place_of(environment)}/", *(f"{SKILLS}/{name}/" for name in environment.skills)]


def _node(base: Base | None, environments: Sequence[Environment]) -> list[str]:
    """A folder with a link to each package that was asked for, of the first environment that has it; all of the base
    where there is none."""
    links: dict[str, str] = {}
    for environment in environments:
        for name in environment.node:
            links.setdefault(name, f"{place_of(environment)}/{NODE}/{name}")
    if base is not None:
        whole = base.folder / "node_modules"
        for name in node_packages(whole):
            links.setdefault(name, f"{base.place}/node_modules/{name}")
    argv = ["--perms", "0755", "--dir", NODE_MODULES] if links else []
    for folder in sorted({name.partition("/")[0] for name in links if "/" in name}):
        argv += ["--perms", "0755", "--dir", f"{NODE_MODULES}/{folder}"]
    for name, target in sorted(links.items()):
        argv += ["--symlink", target, f"{NODE_MODULES}/{name}"]
    return argv


def node_packages(folder: Path) -> list[str]:
    """What `import` finds in a node_modules folder. Blocks."""
    try:
        names = sorted(item.name for item in folder.iterdir() if not item.name.startswith("."))
        return [
            name if not name.startswith("@") else f"{name}/{inner.name}"
            for name in names
            for inner in (sorted((folder / name).iterdir()) if name.startswith("@") else [folder])
        ]
    except OSError:
        return []


def search(base: Base | None, environments: Sequence[Environment], local: str) -> tuple[list[str], list[str]]:
    """The folders of packages' programs, in PATH's order, and of Node's packages, in NODE_PATH's."""
    programs, node = [f"{local}/bin", "/run/bin"], [f"{local}/lib/node_modules"]
    for environment in environments:
        place = place_of(environment)
        programs += [f"{place}/{PYTHON}/bin", f"{place}/{NODE}/.bin"]
        node.append(f"{place}/{NODE}")
    if base is not None:
        programs += [f"{base.place}/bin", f"{base.place}/node_modules/.bin"]
        node.append(f"{base.place}/node_modules")
    return programs, node
