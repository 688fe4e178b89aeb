"""Skills in the styles that people publish, all run: in one daemon, one container, by what their SKILL.md says.

What needs the packages of the base (`skilldeckd sandbox build`) runs where SKILLDECK_TEST_BASE names one:
DATA/sandbox/current. The others take their packages from an index on loopback.
"""

# ruff: noqa: E501 (a table: a skill in a few lines, its programs as they are)
from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from daemon.containers.support import needs_bwrap
from skilldeck_daemon.containers import artifacts
from support.bundles import manifest, zip_bytes
from support.daemon import running
from support.index import index
from support.scripted_model import Turn, shell
from support.wheels import wheel

pytestmark = needs_bwrap
# Read at once: the suite takes SKILLDECK_ variables away before each test (conftest.py).
BASE = os.environ.get("SKILLDECK_TEST_BASE", "")


@dataclass(frozen=True)
class Style:
    """A skill: what SKILL.md tells to run (`@` is its folder), what that prints, and its files."""

    name: str
    run: str
    prints: str
    files: Mapping[str, str] = field(default_factory=dict)


ADD = "import sys, {module}\nprint({module}.version, *sys.argv[1:])\n"
HEADER = (
    '#!/usr/bin/env -S uv run --script\n# /// script\n# requires-python = ">=3.9"\n# dependencies = ["{0}"]\n# ///\n'
)
PLAIN = (
    Style("csv-sum", "python3 @/scripts/sum.py @/data.csv", "6\n", {
        "scripts/sum.py": "import csv, sys\nprint(sum(int(r['n']) for r in csv.DictReader(open(sys.argv[1]))))\n",
        "data.csv": "n\n1\n2\n3\n"}),
    Style("json-query", "python @/scripts/q.py '{\"a\": {\"b\": 7}}' a.b", "7\n", {
        "scripts/q.py": "import json, sys\nv = json.loads(sys.argv[1])\nfor k in sys.argv[2].split('.'):\n    v = v[k]\nprint(v)\n"}),
    Style("helpers-beside", "cd @/scripts && python3 main.py", "from lib\n", {
        "scripts/main.py": "from lib.text import said\nprint(said)\n", "scripts/lib/__init__.py": "",
        "scripts/lib/text.py": "said = 'from lib'\n"}),
    Style("module-run", "cd @ && python3 -m tool", "as a module\n", {"tool/__main__.py": "print('as a module')\n"}),
    Style("argparse-help", "python3 @/scripts/cli.py --help | head -1", "usage: cli.py [-h] [--deep]\n", {
        "scripts/cli.py": "import argparse\np = argparse.ArgumentParser()\np.add_argument('--deep', action='store_true')\np.parse_args()\n"}),
    Style("sqlite-report", "python3 @/r.py", "[(3,)]\n", {
        "r.py": "import sqlite3\nc = sqlite3.connect('/mnt/data/r.db')\nc.execute('create table t(n)')\n"
                "c.executemany('insert into t values (?)', [(1,), (2,)])\nc.commit()\nprint(c.execute('select sum(n) from t').fetchall())\n"}),
    Style("html-page", "python3 @/page.py && grep -c '<h1>' /mnt/data/page.html", "1\n", {
        "page.py": "import html\nopen('/mnt/data/page.html', 'w').write('<h1>' + html.escape('a<b') + '</h1>\\n')\n"}),
    Style("zip-pack", "cd /mnt/data && echo x > p.txt && python3 @/pack.py && ls packed.zip", "packed.zip\n", {
        "pack.py": "import zipfile\nwith zipfile.ZipFile('packed.zip', 'w') as z:\n    z.write('p.txt')\n"}),
    Style("shell-helper", "bash @/scripts/greet.sh world", "hello world\n", {"scripts/greet.sh": 'echo "hello $1"\n'}),
    Style("shell-executable", "@/scripts/go", "gone\n", {"scripts/go": "#!/usr/bin/env bash\nset -euo pipefail\necho gone\n"}),
    Style("shell-sources", "bash @/scripts/a.sh", "from b\n", {
        "scripts/a.sh": 'source "$(dirname "${BASH_SOURCE[0]}")/b.sh"\nsaid\n', "scripts/b.sh": "said() { echo from b; }\n"}),
    Style("shell-tools", "printf 'b\\na\\nb\\n' | bash @/top.sh", "2 b\n", {
        "top.sh": "sort | uniq -c | sort -rn | head -1 | sed 's/^ *//'\n"}),
    Style("shell-heredoc", "bash @/h.sh && cat /mnt/data/h.txt", "one\ntwo\n", {"h.sh": "cat > /mnt/data/h.txt <<X\none\ntwo\nX\n"}),
    Style("awk-table", "awk -f @/t.awk @/t.tsv", "30\n", {"t.awk": "{ s += $2 } END { print s }\n", "t.tsv": "a 10\nb 20\n"}),
    Style("template-copy", "cp @/assets/t.md /mnt/data/t.md && echo more >> /mnt/data/t.md && cat /mnt/data/t.md", "# T\nmore\n", {
        "assets/t.md": "# T\n"}),
    Style("template-tree", "cp -r @/assets/app /mnt/data/app && echo 2 > /mnt/data/app/a/x && cat /mnt/data/app/a/x && rm -rf /mnt/data/app && ls /mnt/data | grep -c app || true", "2\n0\n", {
        "assets/app/a/x": "1\n"}),
    Style("template-python", "python3 @/new.py && cat /mnt/data/made/t.txt", "Dear Ann\n", {
        "new.py": "import shutil, pathlib\nshutil.copytree(pathlib.Path(__file__).parent / 'assets', '/mnt/data/made')\n"
                  "p = pathlib.Path('/mnt/data/made/t.txt')\np.write_text(p.read_text().replace('{{name}}', 'Ann'))\n",
        "assets/t.txt": "Dear {{name}}\n"}),
    Style("reference-reading", "grep -h code: @/references/*.md", "code: 42\n", {"references/a.md": "x\ncode: 42\n"}),
    Style("named-in-home", "mkdir -p ~/.config/x && cp @/c.toml ~/.config/x/ && cat ~/.config/x/c.toml", "a = 1\n", {"c.toml": "a = 1\n"}),
    Style("temp-files", "bash @/t.sh", "kept\n", {"t.sh": "f=$(mktemp)\necho kept > $f\ncat $f\nrm $f\n"}),
    Style("background-server", "bash @/s.sh", "served\n", {
        "s.sh": "cd $(mktemp -d) && echo served > i.txt\npython3 -m http.server 8123 >/dev/null 2>&1 &\np=$!\n"
                "for i in $(seq 100); do python3 -c \"import urllib.request as u; print(u.urlopen('http://127.0.0.1:8123/i.txt').read().decode(), end='')\" 2>/dev/null && break; sleep 0.1; done\nkill $p\n"}),
    Style("pip-as-said", "pip install -q -r @/requirements.txt 2>/dev/null; python3 @/x.py pip", "1.0 pip\n", {
        "requirements.txt": "charts\n", "x.py": ADD.format(module="charts")}),
)  # fmt: skip
NEEDING = (
    Style("needs-requirements", "python3 @/scripts/x.py a", "1.0 a\n", {
        "requirements.txt": "charts>=1  # drawn\n", "scripts/x.py": ADD.format(module="charts")}),
    Style("needs-beside-scripts", "cd @/scripts && python3 x.py b", "1.0 b\n", {
        "scripts/requirements.txt": "tables==1.0\n", "scripts/x.py": ADD.format(module="tables")}),
    Style("needs-another-version", "python3 @/x.py c", "2.0 c\n", {
        "requirements.txt": "tables==2.0\n", "x.py": ADD.format(module="tables")}),
    Style("needs-a-program", "draw-charts", "1.0\n", {"requirements.txt": "charts\n"}),
    Style("needs-project", "python3 @/x.py d", "1.0 d\n", {
        "pyproject.toml": '[project]\nname = "x"\nversion = "1"\ndependencies = ["charts"]\n', "x.py": ADD.format(module="charts")}),
    Style("script-uv-run", "uv run @/x.py e", "1.0 e\n", {"x.py": HEADER.format("charts") + ADD.format(module="charts")}),
    Style("script-executable", "@/x.py f", "2.0 f\n", {"x.py": HEADER.format("tables>1") + ADD.format(module="tables")}),
    Style("script-uv-with", "uv run --with charts --quiet python @/x.py g", "1.0 g\n", {
        "x.py": HEADER.format("charts") + ADD.format(module="charts")}),
)  # fmt: skip
NODE = (
    Style("node-plain", "node @/x.js 3", "9\n", {"x.js": "console.log(Number(process.argv[2]) ** 2)\n"}),
    Style("node-module", "node @/x.mjs", "x.mjs\n", {"x.mjs": "import path from 'node:path'\nconsole.log(path.basename(import.meta.url))\n"}),
    Style("node-requires", "node @/x.js", "plot-kit 1.2.0\n", {
        "package.json": '{"dependencies": {"plot-kit": "^1.0.0"}}', "x.js": "const k = require('plot-kit'); console.log(k.name, k.version)\n"}),
    Style("node-imports", "cd @ && node scripts/x.mjs", "plot-kit 1.2.0\n", {
        "package.json": '{"type": "module", "dependencies": {"plot-kit": "^1.0.0"}}',
        "scripts/x.mjs": "import k from 'plot-kit'; console.log(k.name, k.version)\n"}),
)  # fmt: skip
WITH_BASE = (
    Style("docx-letter", "python3 @/x.py", "Hello\n", {
        "x.py": "from docx import Document\nd = Document()\nd.add_paragraph('Hello')\nd.save('/mnt/data/l.docx')\n"
                "print(Document('/mnt/data/l.docx').paragraphs[0].text)\n"}),
    Style("xlsx-book", "python3 @/x.py", "5\n", {
        "requirements.txt": "openpyxl>=3\n",
        "x.py": "import openpyxl\nb = openpyxl.Workbook()\nb.active['A1'] = 5\nb.save('/mnt/data/b.xlsx')\n"
                "print(openpyxl.load_workbook('/mnt/data/b.xlsx').active['A1'].value)\n"}),
    Style("pptx-deck", "python3 @/x.py", "1\n", {
        "x.py": "from pptx import Presentation\np = Presentation()\np.slides.add_slide(p.slide_layouts[0])\np.save('/mnt/data/d.pptx')\n"
                "print(len(Presentation('/mnt/data/d.pptx').slides))\n"}),
    Style("pdf-pages", "python3 @/x.py", "2\n", {
        "x.py": "from reportlab.pdfgen import canvas\nfrom pypdf import PdfReader\nc = canvas.Canvas('/mnt/data/p.pdf')\n"
                "c.showPage()\nc.showPage()\nc.save()\nprint(len(PdfReader('/mnt/data/p.pdf').pages))\n"}),
    Style("image-size", "python3 @/x.py", "(3, 2)\n", {
        "x.py": "from PIL import Image\nImage.new('RGB', (3, 2)).save('/mnt/data/i.png')\nprint(Image.open('/mnt/data/i.png').size)\n"}),
    Style("page-template", "python3 @/x.py", "<p>a</p>\n", {
        "x.py": "import jinja2, yaml\nprint(jinja2.Template('<p>{{ x }}</p>').render(yaml.safe_load('x: a')))\n"}),
    Style("html-reader", "python3 @/x.py", "t\n", {"x.py": "from bs4 import BeautifulSoup\nprint(BeautifulSoup('<b>t</b>', 'lxml').b.text)\n"}),
)  # fmt: skip


async def misses(tmp_path: Path, styles: tuple[Style, ...], **settings: Any) -> list[tuple[str, str]]:
    """Which of the skills did not print what they should, and what they wrote."""
    runs = [style.run.replace("@", f"/mnt/skills/{style.name}") for style in styles]
    with index(tmp_path / "wheels") as served:
        wheel(served.folder, "charts", script="draw-charts")
        wheel(served.folder, "tables", "1.0")
        wheel(served.folder, "tables", "2.0")
        served.node("plot-kit", "1.2.0")
        urls = {"package_index": served.python, "npm_registry": served.npm, "skill_environments": "on"}
        turns = (Turn(shell(*runs)), Turn("done"))
        async with running(*turns, data_dir=tmp_path / "data", **urls, **settings) as daemon:
            services = daemon.daemon.services
            place = services.environments.packages._builder._place().parent
            try:
                references = []
                for style in styles:
                    text = f"\n# Use\n\n    {style.run}\n".encode()
                    files = {path: content.encode() for path, content in style.files.items()}
                    modes = {path: 0o100755 for path, content in style.files.items() if content.startswith("#!")}
                    packed = zip_bytes({"SKILL.md": manifest(style.name) + text, **files}, top=style.name, modes=modes)
                    answer = await daemon.http.post("/skills", files={"files": ("s.zip", packed)})
                    assert answer.status_code == 200, answer.text
                    references.append({"type": "skill_reference", "skill_id": answer.json()["id"]})
                environment = {"type": "container_auto", "skills": references}
                response = await daemon.respond(tools=[{"type": "shell", "environment": environment}])
            finally:
                artifacts.delete_tree(place)
        artifacts.delete_tree(services.environments.containers.base)
    (output,) = [item["output"] for item in response["output"] if item["type"] == "shell_call_output"]
    assert len(output) == len(styles)
    pairs = zip(styles, output, strict=True)
    return [(style.name, str(said)) for style, said in pairs if said["stdout"] != style.prints]


async def test_skills_that_need_nothing_or_say_what(tmp_path: Path) -> None:
    assert len(PLAIN + NEEDING) >= 30
    assert await misses(tmp_path, PLAIN + NEEDING) == []


async def test_skills_for_node(tmp_path: Path) -> None:

    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    assert await misses(tmp_path, NODE) == []


async def test_skills_that_live_on_the_base(tmp_path: Path) -> None:
    if not BASE:
        pytest.skip("SKILLDECK_TEST_BASE names no base: skilldeckd sandbox build, then DATA/sandbox/current")
    assert await misses(tmp_path, WITH_BASE, sandbox_python=Path(BASE).resolve()) == []
