"""A program of its own: one document in, its text out. It runs inside a sandbox, never inside the daemon.

    python convert_document.py LIBRARY SOURCE TARGET [page]

LIBRARY is a folder of Python packages, SOURCE the document, TARGET receives one JSON object: `{"text", "cut"}` or
`{"note"}`, a sentence that says why there is no text. With `page`, HTML is a page of the web: its menus and what nobody
sees are left out. What the parsers may use is bounded here (processor time,
unpacked size, length of the text) and by the sandbox (memory, files, the clock). Imports nothing of the project.
"""

from __future__ import annotations

import codecs
import contextlib
import datetime
import importlib
import importlib.util
import io
import json
import os
import re
import resource
import signal
import sys
import types
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CPU_SECONDS = 40
"""After this much processor time the kernel ends the program."""
PATIENCE_SECONDS = 20.0
"""After this much the layout analysis of a PDF gives way to the plain text of its pages."""
UNPACKED_BYTES = 256 * 1024 * 1024
ENTRIES = 20_000
TEXT_CHARS = 2_000_000
AROUND = ["nav", "footer", "aside", "form", "script", "style", "noscript", "template", "iframe", "svg"]
AROUND_ROLES = ["navigation", "search", "complementary", "contentinfo", "dialog"]
MAIN_PART = 4
"""What is marked as a page's main part is taken for its content when it is at least this part of its text."""
_UNSEEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)

_DATA_URL = re.compile(r"data:[\w.+/-]*(?:;[\w=.-]+)*;base64,[A-Za-z0-9+/=\s]{64,}")
_CHARSET = re.compile(rb"""charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE)

DAMAGED = "The document is damaged; its text could not be read."
ENCRYPTED = "The document is encrypted; its text cannot be read without the password."
TOO_LARGE = "The document needs too much memory to read."
TOO_SLOW = "The document takes too long to read."
UNPACKS = f"The document unpacks to more than {UNPACKED_BYTES // 1024 // 1024} MiB; it was not read."
EMPTY = "No text was found in the document; it may hold scanned pages or pictures only."
LEGACY = "Binary Office documents (.doc, .xls, .ppt) are not read; save it as .docx, .xlsx or .pptx."
UNKNOWN = "The file is an archive, not a document."


class NoText(Exception):
    """There is no text; the message is the sentence to show."""


class Impatient(BaseException):
    """The layout analysis took too long. Not an Exception: converters catch those to try something else."""


def convert(data: bytes, source: str, page: bool = False) -> str:
    """The document's text as Markdown. Raises NoText."""
    kind = kind_of(data, source)
    if kind == "html" and page:
        with contextlib.suppress(RecursionError):  # nested too deeply to be taken apart
            data = content_of(data)
    if kind == "pdf":
        return pdf(data)
    if kind == "xlsx":
        try:
            return workbook(data)
        except TypeError as error:
            if "showZeroes" not in str(error):
                raise
            return workbook(spelled_right(data))
    converter, extension = {
        "docx": ("DocxConverter", ".docx"),
        "pptx": ("PptxConverter", ".pptx"),
        "epub": ("EpubConverter", ".epub"),
        "html": ("HtmlConverter", ".html"),
    }[kind]
    return markdown(kind, converter, extension, data, charset_of(data) if kind == "html" else None)


def kind_of(data: bytes, source: str) -> str:
    """What kind of document it is, by its content."""
    if b"%PDF-" in data[:1024]:
        return "pdf"
    if data.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        # Encrypted OOXML is an OLE file with a stream of this name.
        raise NoText(ENCRYPTED if "EncryptedPackage".encode("utf-16-le") in data else LEGACY)
    if not data.startswith(b"PK"):
        return "html"
    try:
        with zipfile.ZipFile(source) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise NoText(DAMAGED) from None
    if len(entries) > ENTRIES or sum(entry.file_size for entry in entries) > UNPACKED_BYTES:
        raise NoText(UNPACKS)
    if any(entry.flag_bits & 1 for entry in entries):
        raise NoText(ENCRYPTED)
    names = {entry.filename for entry in entries}
    for name, kind in (("word/", "docx"), ("xl/", "xlsx"), ("ppt/", "pptx"), ("META-INF/container.xml", "epub")):
        if any(entry.startswith(name) for entry in names):
            return kind
    raise NoText(UNKNOWN)


def content_of(data: bytes) -> bytes:
    """A web page without what is around its content, and without what a browser would not show."""
    soup = importlib.import_module("bs4").BeautifulSoup(data.decode(charset_of(data), "replace"), "html.parser")
    unseen = [tag for tag in soup.find_all(True) if "hidden" in tag.attrs or _UNSEEN.search(str(tag.get("style", "")))]
    for tag in [*soup.find_all(AROUND), *soup.find_all(attrs={"role": AROUND_ROLES}), *unseen]:
        if not tag.decomposed:  # with what it stood in
            tag.decompose()
    whole = len(soup.get_text())
    mains = soup.find_all("main") or soup.find_all(attrs={"role": "main"}) or soup.find_all("article")
    if len(mains) == 1 and len(mains[0].get_text()) * MAIN_PART >= whole:
        soup = mains[0]
    return codecs.BOM_UTF8 + str(soup).encode("utf-8", "replace")


def charset_of(data: bytes) -> str:
    """The encoding of an HTML page: its byte order mark, its declaration, UTF-8 when it is that, else Windows-1252."""
    for mark, name in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return name
    declared = _CHARSET.search(data[:4096])
    if declared:
        name = declared.group(1).decode("ascii")
        with contextlib.suppress(LookupError, UnicodeDecodeError):
            data[:65536].decode(name, "replace")
            return name
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "windows-1252"
    return "utf-8"


def markdown(kind: str, converter: str, extension: str, data: bytes, charset: str | None = None) -> str:
    """The library's conversion. Only the one converter is loaded: all of them together take seconds to import."""
    package = importlib.util.find_spec("markitdown")
    if package is None or not package.submodule_search_locations:
        raise ImportError("markitdown")
    root = package.submodule_search_locations[0]
    for name, folder in (("markitdown", root), ("markitdown.converters", os.path.join(root, "converters"))):
        if name not in sys.modules:
            module = types.ModuleType(name)
            module.__path__ = [folder]
            sys.modules[name] = module
    made = getattr(importlib.import_module(f"markitdown.converters._{kind}_converter"), converter)()
    info = importlib.import_module("markitdown._stream_info").StreamInfo(extension=extension, charset=charset)
    return str(made.convert(io.BytesIO(data), info).markdown)


def workbook(data: bytes) -> str:
    """Each sheet as a table, the values as they were last computed, up to the limit.

    Not markitdown's: it reads workbooks through pandas, 84 MB to install, and prints what is empty as NaN.
    """
    book = importlib.import_module("openpyxl").load_workbook(io.BytesIO(data), True, data_only=True, keep_links=False)
    said: list[str] = []
    room = TEXT_CHARS
    for sheet in book.worksheets:
        sheet.reset_dimensions()  # what the file says of its size is often wrong
        rows: list[list[str]] = []
        for row in sheet.iter_rows(values_only=True):
            cells = [cell_text(value) for value in row]
            while cells and not cells[-1]:
                cells.pop()
            if cells:
                rows.append(cells)
                room -= sum(len(cell) + 3 for cell in cells) + 2
            if room < 0:
                break
        if rows:
            said.append(f"## {sheet.title}\n\n{table(rows)}")
        if room < 0:
            break
    return "\n\n".join(said)


def spelled_right(data: bytes) -> bytes:
    """A workbook without an attribute that some programs misspell and the library refuses."""
    mended = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(mended, "w") as target:
        for entry in source.infolist():
            part = source.read(entry)
            if entry.filename.startswith("xl/worksheets/"):
                part = re.sub(rb'(<sheetView\b[^>]*?)\sshowZeroes="[^"]*"', rb"\1", part)
            target.writestr(entry, part)
    return mended.getvalue()


def cell_text(value: Any) -> str:
    """A cell as a person reads it, on one line."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    text = str(value).removesuffix(" 00:00:00") if isinstance(value, datetime.datetime) else str(value)
    return " ".join(text.split()).replace("|", "\\|")


def table(rows: list[list[str]]) -> str:
    """A Markdown table whose head is the first row."""
    width = max(map(len, rows))
    lines = [f"| {' | '.join([*row, *[''] * (width - len(row))])} |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * width, *lines[1:]])


def pdf(data: bytes) -> str:
    """Text with layout and tables; the plain text of the pages when that takes too long."""
    try:
        with impatience():
            return markdown("pdf", "PdfConverter", ".pdf", data)
    except Impatient:
        return "".join(plain_pages(data))
    except Exception as error:
        if "password" in type(error).__name__.lower() or "encrypt" in type(error).__name__.lower():
            raise NoText(ENCRYPTED) from None
        raise


@contextlib.contextmanager
def impatience() -> Iterator[None]:
    """Raise Impatient inside when it has used its processor time."""

    def ring(*_: object) -> None:
        raise Impatient

    signal.signal(signal.SIGVTALRM, ring)
    signal.setitimer(signal.ITIMER_VIRTUAL, PATIENCE_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def plain_pages(data: bytes) -> Iterator[str]:
    """The pages' text without layout, up to the limit."""
    pdfium = importlib.import_module("pypdfium2")
    written = 0
    document = pdfium.PdfDocument(data)
    for number in range(len(document)):
        text = document[number].get_textpage().get_text_bounded().replace("\r\n", "\n") + "\n\n"
        yield text
        written += len(text)
        if written > TEXT_CHARS:
            return


def clean(text: str) -> str:
    """Without embedded data, without what no text holds, and without the white space that layout leaves behind."""
    text = _DATA_URL.sub("data:…", text.replace("\r\n", "\n").replace("\x0c", "\n\n"))
    text = "".join(char for char in text if char in "\n\t" or char >= " ").encode("utf-8", "replace").decode()
    return re.sub(r"\n{4,}", "\n\n\n", re.sub(r"(?<![ \t])[ \t]+\n", "\n", text)).strip()


def outcome(work: Callable[[], str]) -> dict[str, Any]:
    """What TARGET receives."""
    try:
        text = clean(work())
    except NoText as error:
        return {"note": str(error)}
    except MemoryError:
        return {"note": TOO_LARGE}
    except ImportError as error:
        return {"fault": f"{type(error).__name__}: {error}"}
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return {"note": DAMAGED}
    if not text:
        return {"note": EMPTY}
    return {"text": text[:TEXT_CHARS], "cut": len(text) > TEXT_CHARS}


def main(library: str, source: str, target: str, kind: str = "") -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 2))
    sys.setrecursionlimit(3000)
    sys.path.append(library)
    result = outcome(lambda: convert(Path(source).read_bytes(), source, kind == "page"))
    Path(target).write_text(json.dumps(result, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
