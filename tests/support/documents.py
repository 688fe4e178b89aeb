"""Small documents, whole and hostile, made here byte by byte or with the libraries that write them."""

from __future__ import annotations

import functools
import io
import zipfile
import zlib

import openpyxl
import pptx

WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml"
_TYPES = (
    '<?xml version="1.0" encoding="UTF-8"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="xml" ContentType="application/xml"/>'
    f'<Override PartName="/word/document.xml" ContentType="{WORD}.document.main+xml"/></Types>'
)
_RELATIONS = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="rId1" Target="word/document.xml" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"/></Relationships>'
)


def pdf(*pages: str, encrypted: bool = False) -> bytes:
    """A PDF with one line of text a page."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count %d /Kids [%s] >>"
        % (len(pages), b" ".join(b"%d 0 R" % (4 + 2 * index) for index in range(len(pages)))),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for index, text in enumerate(pages):
        shown = b"BT /F1 18 Tf 72 720 Td (%s) Tj ET" % text.encode("latin-1")
        page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> >>"
        objects += [
            page + b" /Contents %d 0 R >>" % (5 + 2 * index),
            b"<< /Length %d >>\nstream\n%s\nendstream" % (len(shown), shown),
        ]
    trailer = b"/Size %d /Root 1 0 R" % (len(objects) + 1)
    if encrypted:
        objects.append(b"<< /Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s> >>" % (b"11" * 32, b"22" * 32))
        trailer = b"/Size %d /Root 1 0 R /ID [<00> <00>] /Encrypt %d 0 R" % (len(objects) + 1, len(objects))
    out, places = bytearray(b"%PDF-1.4\n"), []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    return bytes(out + b"trailer << %s >>\nstartxref\n%d\n%%%%EOF\n" % (trailer, table))


def archive(files: dict[str, str | bytes]) -> bytes:
    """A zip of these files, in order."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return out.getvalue()


def docx(*paragraphs: str, prologue: str = "") -> bytes:
    """A Word document. `prologue` stands before its root element."""
    body = "".join(f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>" for text in paragraphs)
    name = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    document = f'<?xml version="1.0"?>{prologue}<w:document xmlns:w="{name}"><w:body>{body}</w:body></w:document>'
    return archive({"[Content_Types].xml": _TYPES, "_rels/.rels": _RELATIONS, "word/document.xml": document})


def xlsx(rows: list[list[object]]) -> bytes:
    """A workbook with one sheet."""
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in rows:
        sheet.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def slides(*titles: str) -> bytes:
    """A presentation with a title on each slide."""
    deck = pptx.Presentation()
    for title in titles:
        shapes = deck.slides.add_slide(deck.slide_layouts[5]).shapes
        assert shapes.title is not None
        shapes.title.text = title
    out = io.BytesIO()
    deck.save(out)
    return out.getvalue()


def epub(title: str, text: str) -> bytes:
    """A book of one chapter."""
    return archive(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            '<rootfile full-path="book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>',
            "book.opf": '<package xmlns="http://www.idpf.org/2007/opf"><metadata '
            f'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{title}</dc:title></metadata><manifest>'
            '<item id="one" href="one.xhtml" media-type="application/xhtml+xml"/></manifest>'
            '<spine><itemref idref="one"/></spine></package>',
            "one.xhtml": f'<html xmlns="http://www.w3.org/1999/xhtml"><body><p>{text}</p></body></html>',
        }
    )


def entity_bomb() -> bytes:
    """A Word document whose text would be 10^9 words if its entities were put in."""
    entities = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 10))
    return docx("&e9;", prologue=f'<!DOCTYPE w:document [<!ENTITY e0 "haha ">{entities}]>')


@functools.cache
def unpacking_bomb() -> bytes:
    """A workbook of some kilobytes whose sheet unpacks to more than is read."""
    out = io.BytesIO(xlsx([["a"]]))
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as made:
        with made.open("xl/worksheets/sheet2.xml", "w") as sheet:
            block = b" " * (1 << 20)
            for _ in range(300):
                sheet.write(block)
    return out.getvalue()


def lying_bomb() -> bytes:
    """The same, its directory saying that it is small."""
    data = bytearray(unpacking_bomb())
    real, small = (300 << 20).to_bytes(4, "little"), (1000).to_bytes(4, "little")
    assert real in data
    return bytes(data.replace(real, small))


def pdf_bomb() -> bytes:
    """A page whose content unpacks to hundreds of megabytes of drawing."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(b"0 0 m 9 9 l S " * 100_000) for _ in range(60)) + packer.flush()
    head = b"%PDF-1.4\n1 0 obj << /Type /Catalog /Pages 2 0 R >> endobj\n2 0 obj << /Type /Pages /Count 1 /Kids [3 0 R]"
    page = b" >> endobj\n3 0 obj << /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R >> endobj\n"
    stream = b"4 0 obj << /Filter /FlateDecode /Length %d >>\nstream\n%s\nendstream endobj\n" % (len(packed), packed)
    return head + page + stream + b"trailer << /Root 1 0 R >>\n%%EOF\n"


def locked_office() -> bytes:
    """What Office writes when a document has a password: an OLE file around the encrypted package."""
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504) + "EncryptedPackage".encode("utf-16-le") + bytes(472)
