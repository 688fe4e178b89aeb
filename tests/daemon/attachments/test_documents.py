"""Documents become text inside a real sandbox; what cannot be read is an answer that says why."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import hashlib
import io
import os
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from skilldeck_daemon.attachments import convert_document, documents, library_copy
from skilldeck_daemon.attachments.documents import Converted, Documents, is_document
from skilldeck_daemon.containers import Containers, ContainerSpec
from support import documents as made
from support.wait import until


@pytest_asyncio.fixture
async def containers(tmp_path: Path) -> AsyncIterator[Containers]:
    started = Containers(tmp_path / "containers", disk_floor_bytes=1 << 20)
    await started.start()
    yield started
    await started.sweep(set())
    await started.close()


@pytest_asyncio.fixture
async def service(containers: Containers, tmp_path: Path) -> AsyncIterator[Documents]:
    made = Documents(containers, tmp_path / "cache")
    yield made
    await made.close()


async def text(service: Documents, data: bytes) -> Converted:
    return await service.text(hashlib.sha256(data).hexdigest(), data)


KINDS: dict[str, tuple[bytes, list[str]]] = {
    "pdf": (made.pdf("First page here", "Second page here"), ["First page here", "Second page here"]),
    "docx": (made.docx("Dear reader", "A second paragraph"), ["Dear reader\n\nA second paragraph"]),
    "xlsx": (made.xlsx([["city", "people"], ["Oslo", 717_710]]), ["| city | people |", "| Oslo | 717710 |"]),
    "pptx": (made.slides("Opening", "Closing"), ["# Opening", "# Closing"]),
    "epub": (made.epub("A Book", "Once upon a time"), ["A Book", "Once upon a time"]),
    "html": ("<html><body><h1>Größe</h1><script>x()</script></body></html>".encode("cp1252"), ["# Größe"]),
    "html-utf16": ('<meta charset="utf-16"><p>wrongly declared</p>'.encode("utf-16"), ["wrongly declared"]),
}
REFUSED: dict[str, tuple[bytes, str]] = {
    "pdf-password": (made.pdf("secret", encrypted=True), convert_document.ENCRYPTED),
    "office-password": (made.locked_office(), convert_document.ENCRYPTED),
    "doc": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1000), convert_document.LEGACY),
    "docx-cut": (made.docx("cut in two")[:300], convert_document.DAMAGED),
    "pdf-cut": (b"%PDF-1.7\n\xff\xfe garbage", convert_document.DAMAGED),
    "blank": (made.pdf(""), convert_document.EMPTY),
    "zip-bomb": (made.unpacking_bomb(), convert_document.UNPACKS),
    "zip": (made.archive({"note.txt": "just a zip"}), convert_document.UNKNOWN),
    "no-xml": (made.archive({"word/document.xml": "not xml"}), convert_document.DAMAGED),
}


async def test_each_kind_becomes_text(service: Documents) -> None:
    converted = await asyncio.gather(*(text(service, data) for data, _ in KINDS.values()))
    for (name, (_, expected)), found in zip(KINDS.items(), converted, strict=True):
        assert found.note == "", name
        assert [piece for piece in expected if piece not in (found.text or "")] == [], (name, found.text)
        assert "x()" not in (found.text or "")


def test_a_workbook_is_a_table_for_each_sheet_with_what_is_empty_left_empty(tmp_path: Path) -> None:
    values = [["when", "what|how", None], [datetime.datetime(2025, 1, 2), "two\nlines", None], [], [None, 4.0, 0.5]]
    data = made.xlsx(values)
    expected = (
        "## Sheet\n\n| when | what\\|how |  |\n| --- | --- | --- |\n| 2025-01-02 | two lines |  |\n|  | 4 | 0.5 |"
    )
    file = tmp_path / "book.xlsx"
    file.write_bytes(data)
    assert convert_document.convert(data, str(file)) == expected
    misspelled = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(misspelled, "w") as target:
        for entry in source.infolist():
            target.writestr(entry, source.read(entry).replace(b"<sheetView ", b'<sheetView showZeroes="1" '))
    assert convert_document.convert(misspelled.getvalue(), str(file)) == expected


def test_a_workbook_is_read_no_further_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert_document, "TEXT_CHARS", 100)
    assert 100 < len(convert_document.workbook(made.xlsx([["x" * 20]] * 50))) < 200


async def test_what_has_no_text_says_why(service: Documents, containers: Containers) -> None:
    converted = await asyncio.gather(*(text(service, data) for data, _ in REFUSED.values()))
    assert dict(zip(REFUSED, converted, strict=True)) == {
        name: Converted(None, False, note) for name, (_, note) in REFUSED.items()
    }
    assert containers.stats()["open"] == 0


async def test_bombs_end_within_their_limits(
    containers: Containers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "TIMEOUT_MS", 6000)
    service = Documents(containers, tmp_path / "cache", concurrent=3)
    bombs = (made.entity_bomb(), made.lying_bomb(), made.pdf_bomb())
    for converted in await asyncio.gather(*(text(service, data) for data in bombs)):
        assert converted.text is None or len(converted.text) < 1000
    assert containers.stats()["open"] == 0
    await service.close()


async def test_a_truncated_pdf_gives_what_is_left_or_says_that_it_is_damaged(service: Documents) -> None:
    whole = made.pdf(*["Page of text"] * 5)
    converted = await text(service, whole[: len(whole) // 2])
    assert converted.note == convert_document.DAMAGED or "Page of text" in (converted.text or "")


def test_a_long_pdf_falls_back_to_the_plain_text_of_its_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: object) -> str:
        with contextlib.suppress(Exception):
            while True:
                pass
        return ""

    monkeypatch.setattr(convert_document, "PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(convert_document, "markdown", slow)
    data = made.pdf("Page one", "Page two")
    assert convert_document.outcome(lambda: convert_document.pdf(data)) == {
        "text": "Page one\n\nPage two",
        "cut": False,
    }


async def test_embedded_data_never_reaches_the_text(service: Documents) -> None:
    page = '<p>see <img src="data:image/png;base64,' + "iVBOR" * 100 + '"> and data:;base64,' + "QUJD" * 100 + "</p>"
    converted = await text(service, f"<html>{page}</html>".encode())
    assert "QUJDQUJD" not in (converted.text or "see")
    assert "iVBORiVBOR" not in (converted.text or "")


async def test_a_result_is_kept_by_content_over_restarts(
    containers: Containers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, broken = made.docx("kept"), made.docx("broken")[:200]
    first = Documents(containers, tmp_path / "cache")
    expected = [await text(first, data), await text(first, broken)]
    await first.close()

    async def none(spec: ContainerSpec) -> None:
        raise AssertionError("converted again")

    monkeypatch.setattr(containers, "create", none)
    second = Documents(containers, tmp_path / "cache")
    assert [await text(second, data), await text(second, broken)] == expected
    assert expected[0].text == "kept"


async def test_a_damaged_cache_is_made_anew_and_old_results_give_way(
    service: Documents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = b"<html>one</html>"
    await text(service, data)
    (kept,) = (tmp_path / "cache").glob("*/*")
    kept.write_bytes(b"not what was written")
    assert (await text(service, data)).text == "one"
    monkeypatch.setattr(documents, "CACHE_BYTES", 150)
    os.utime(kept, (1, 1))
    await text(service, b"<html>two</html>")
    await text(service, b"<html>three</html>")
    left = list((tmp_path / "cache").glob("*/*"))
    assert kept not in left
    assert sum(file.stat().st_size for file in left) <= 150


async def test_two_who_ask_for_one_document_share_one_conversion(service: Documents, containers: Containers) -> None:
    created = 0
    create = containers.create

    async def counted(spec: ContainerSpec) -> object:
        nonlocal created
        created += 1
        return await create(spec)

    containers.create = counted  # type: ignore[method-assign,assignment]
    data = b"<html>shared</html>"
    impatient = asyncio.create_task(text(service, data))
    patient = asyncio.create_task(text(service, data))
    await until(lambda: service._running)
    impatient.cancel()
    assert (await patient).text == "shared"
    assert created == 1


async def test_without_room_for_a_container_there_is_a_note_and_the_next_try_may_succeed(
    service: Documents, containers: Containers
) -> None:
    containers.max_containers = 0
    data = b"<html>later</html>"
    refused = await text(service, data)
    assert refused.text is None
    assert refused.note.startswith(documents.NOT_NOW)
    containers.max_containers = 64
    assert (await text(service, data)).text == "later"


async def test_the_parser_has_no_network_and_cannot_write_to_its_library(containers: Containers) -> None:
    site = library_copy.site_packages()
    assert site is not None
    assert containers.tools is not None
    library = library_copy.within_reach(site, containers.tools.uid, containers.base)
    spec = ContainerSpec("document_probe", binds=(documents.Bind(library, documents.LIBRARY),))
    container = await containers.create(spec)
    (result,) = await container.exec(
        ["ls /run/library/markitdown/__init__.py && ! touch /run/library/x 2>/dev/null && cat /proc/net/dev | wc -l"]
    )
    assert result.stdout.split() == ["/run/library/markitdown/__init__.py", "3"]  # two lines of header, and lo
    await container.close()


async def test_without_a_sandbox_a_process_apart_converts(tmp_path: Path) -> None:
    plain = Containers(tmp_path / "plain", sandbox="none", disk_floor_bytes=1 << 20)
    await plain.start()
    service = Documents(plain, tmp_path / "cache")
    assert (await text(service, made.docx("no walls"))).text == "no walls"
    await service.close()
    await plain.close()


async def test_a_copy_of_the_needed_packages_converts_as_well(
    containers: Containers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copied(site: Path, uid: int, base: Path) -> Path:
        return library_copy.copy(site, base)

    monkeypatch.setattr(library_copy, "within_reach", copied)
    service = Documents(containers, tmp_path / "cache")
    assert (await text(service, made.xlsx([["copied"], [7]]))).note == ""
    assert (await text(service, made.pdf("copied"))).text == "copied"
    (copy,) = containers.base.glob(f"{library_copy.PREFIX}*")
    assert not (copy / "torch").exists()
    await service.close()
    assert not copy.exists()


@pytest.mark.parametrize(
    ("name", "media", "head", "expected"),
    [
        ("x", "", b"junk %PDF-1.4", True),
        ("a.docx", "", b"PK\x03\x04", True),
        ("a.zip", "application/zip", b"PK\x03\x04", False),
        ("a", "application/vnd.openxmlformats-officedocument.wordprocessingml.document", b"PK\x03\x04", True),
        ("a.doc", "application/msword", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", True),
        ("a.docx", "", b"plain text", False),
        ("a.html", "", b"<p>", True),
        ("a.txt", "text/html", b"x", True),
        ("a.txt", "text/plain", b"<html>", False),
    ],
)
def test_documents_are_known_by_content_and_name(name: str, media: str, head: bytes, expected: bool) -> None:
    assert is_document(name, media, head) is expected
