"""What a skill's JavaScript needs from elsewhere."""

# ruff: noqa: E501 (programs as they are)
from __future__ import annotations

from pathlib import Path

from skilldeck_shared.skills.node_imports import node_packages, node_warnings

FILES = {
    "scripts/a.js": "const fs = require('fs');\nconst docx = require(\"docx\");\nconst x = require('./near');\n",
    "scripts/b.mjs": "import { marked } from 'marked';\nimport fs from 'node:fs/promises';\nimport 'side-effect/register';\n"
    "import {\n  a,\n  b,\n} from '@scope/part/deep';\nexport * from 'docx/build';\nconst y = await import('later');\n",
    "scripts/c.cjs": "let sharp = null;\ntry {\n  sharp = require('sharp');\n} catch {}\n// require('said')\n/* require('too') */\n",
    "scripts/d.js": "import me from 'own-name';\nimport alias from '@/lib/x';\nimport s from '#inner';\n"
    "const text = 'take it from \\'nowhere\\'';\nimport z from 'https://x.example/z.js';\n",
    "package.json": '{"name": "own-name"}',
    "assets/page.js": "import React from 'react';\n",
    "tests/t.js": "require('jest');\n",
    "notes.md": "require('prose')\n",
}


def test_packages_are_those_of_programs_that_need_them(tmp_path: Path) -> None:
    for path, text in FILES.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    found = node_packages([(path, tmp_path / path) for path in FILES])
    assert found == {
        "@scope/part": ["scripts/b.mjs"],
        "docx": ["scripts/a.js", "scripts/b.mjs"],
        "later": ["scripts/b.mjs"],
        "marked": ["scripts/b.mjs"],
        "side-effect": ["scripts/b.mjs"],
    }
    said = node_warnings(found, {"marked", "@scope/part", "side-effect"}.__contains__)
    assert said == [
        "scripts/a.js (and 1 more) imports the Node package docx: not in this sandbox;"
        " add it to package.json or run skilldeckd sandbox build",
        "scripts/b.mjs imports the Node package later: not in this sandbox;"
        " add it to package.json or run skilldeckd sandbox build --with npm:later",
    ]
