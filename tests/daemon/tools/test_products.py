"""Which of a run's files are cited, and in which order."""

from __future__ import annotations

import pytest

from skilldeck_daemon.store.records import StoredContainerFile
from skilldeck_daemon.tools.products import products

OFFICE = ("[Content_Types].xml", "word/document.xml", "_rels/.rels")


def _file(path: str, age: int = 0) -> StoredContainerFile:
    return {
        "id": f"cfile_{path}",
        "object": "container.file",
        "created_at": 1,
        "bytes": 1,
        "container_id": "cntr_1",
        "path": f"/mnt/data/{path}",
        "source": "assistant",
        "mtime_ns": -age,
    }


@pytest.mark.parametrize(
    ("paths", "text", "cited"),
    [
        (["deep/er/a.txt", "deep/b.txt", "c.txt"], "", ["c.txt", "deep/b.txt", "deep/er/a.txt"]),
        (["a.txt", "b.txt"], "See b.txt.", ["b.txt", "a.txt"]),
        (["data.csv"], "olddata.csv is not it", ["data.csv"]),
        ([".env", "__pycache__/a.pyc", ".git/config", "a.py"], ".env", ["a.py"]),
        (["node_modules/x/index.js", "out.txt"], "", ["out.txt"]),
        (["node_modules/x/index.js", "out.txt"], "index.js", ["out.txt"]),
        (["node_modules/x/index.js"], "Read node_modules/x/index.js.", ["node_modules/x/index.js"]),
        (["env/pyvenv.cfg", "env/bin/pip", "report.md"], "", ["report.md"]),
        ([f"draft/{name}" for name in OFFICE] + ["draft.docx"], "", ["draft.docx"]),
        ([*OFFICE, "draft.docx"], "", ["draft.docx"]),
        (["lib/six.py", "lib/six-1.dist-info/METADATA", "six.txt"], "", ["six.txt"]),
        (["main.py", "six.py", "six-1.dist-info/METADATA"], "", ["main.py", "six.py"]),
    ],
)
def test_what_packages_brought_is_left_out_and_what_the_answer_mentions_comes_first(
    paths: list[str], text: str, cited: list[str]
) -> None:
    made = [_file(path, age) for age, path in enumerate(paths)]
    assert [file["path"].removeprefix("/mnt/data/") for file in products(made, made, text)] == cited


def test_of_equals_the_newest_comes_first_and_what_was_there_before_is_no_product() -> None:
    made = [_file("old.txt", 2), _file("new.txt", 1)]
    assert [file["path"] for file in products(made, [*made, _file("given.csv")])] == [
        "/mnt/data/new.txt",
        "/mnt/data/old.txt",
    ]
