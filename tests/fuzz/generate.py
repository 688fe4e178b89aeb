"""Hostile inputs of every kind that strangers send, from a seed: the same seed, the same inputs.

Most are generated: chains, nests and references as long as the limits let through and beyond, structures with one thing
wrong, bytes that mean nothing. A quarter is the corpus with a few bytes changed: what was found once stays near.
"""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).parent / "corpus"
SIZES = (0, 1, 2, 3, 10, 50, 200, 1000, 3000)
TEXTS = (
    "",
    "a",
    "\0",
    "é",
    "\ud800",
    "😀",
    "\u202e",
    "\x1b[2J",
    "../",
    "%00",
    "$ref",
    "__proto__",
    "a" * 5000,
    "\\",
    '"',
    "'",
)
NUMBERS = (0, -1, 1, 1.5, 1e308, -0.0, 2**31, 2**53, 2**63, 2**64, 10**400)


def near(source: random.Random, data: bytes) -> bytes:
    """The same with a few bytes changed, doubled, lost or moved."""
    out = bytearray(data)
    for _ in range(source.choice((1, 1, 2, 5))):
        at = source.randrange(len(out) + 1)
        end = min(len(out), at + source.choice((1, 2, 8, 64)))
        match source.randrange(5):
            case 0:
                out[at:end] = source.randbytes(end - at)
            case 1:
                out[at:at] = out[at:end] * source.choice((1, 2, 100))
            case 2:
                del out[at:end]
            case 3:
                out[at:at] = source.choice(TEXTS).encode("utf-8", "surrogatepass")
            case 4 if out:
                out[source.randrange(len(out))] ^= 1 << source.randrange(8)
    return bytes(out[: 1 << 20])


# -- JSON


def value(source: random.Random, depth: int = 4) -> Any:
    match source.randrange(7 if depth else 4):
        case 0:
            return source.choice(TEXTS)
        case 1:
            return source.choice(NUMBERS)
        case 2:
            return source.choice((None, True, False))
        case 3:
            return source.choice(TEXTS) * source.choice((1, 3))
        case 4:
            return [value(source, depth - 1) for _ in range(source.randrange(5))]
        case _:
            return {source.choice(TEXTS): value(source, depth - 1) for _ in range(source.randrange(5))}


def schema(source: random.Random, depth: int = 3) -> Any:
    """A JSON schema, or nearly one."""
    size = source.choice(SIZES)
    leaf: dict[str, Any] = {"type": source.choice(("string", "integer", "number", "boolean", "null", "any", 5))}
    match source.randrange(12):
        case 0:
            names = [f"d{n}" for n in range(size)]
            chain = {
                name: {"$ref": f"#/$defs/{after}"}
                for name, after in zip(names, [*names[1:], names[0]] if names else [], strict=True)
            }
            return {"$ref": f"#/$defs/{names[0] if names else 'none'}", "$defs": chain}
        case 1:
            inner = leaf
            for _ in range(min(size, 300)):
                inner = {"type": "object", "properties": {"a": inner}, "required": ["a"]}
            return inner
        case 2:
            return {"enum": [source.choice(TEXTS) + str(n) for n in range(size)]}
        case 3:
            return {"type": "string", "pattern": regex(source)}
        case 4:
            return {
                "type": "array",
                "items": schema(source, depth - 1) if depth else leaf,
                "minItems": source.choice(NUMBERS),
                "maxItems": size,
            }
        case 5:
            return {
                source.choice(("anyOf", "oneOf", "allOf")): [
                    schema(source, depth - 1) if depth else leaf for _ in range(source.choice((1, 2, 5)))
                ]
            }
        case 6:
            return {
                "type": "object",
                "properties": {f"p{n}": leaf for n in range(size)},
                "additionalProperties": source.choice((True, False, leaf)),
            }
        case 7:
            return {
                "type": "integer",
                "minimum": source.choice(NUMBERS),
                "maximum": source.choice(NUMBERS),
                "multipleOf": source.choice(NUMBERS),
            }
        case 8:
            return {
                "type": "string",
                "minLength": size,
                "maxLength": source.choice(NUMBERS),
                "format": source.choice(("date-time", "uuid", "odd", "")),
            }
        case 9:
            return {
                "type": "object",
                "patternProperties": {regex(source): leaf},
                "propertyNames": {"pattern": regex(source)},
            }
        case 10:
            return {"not": leaf, "if": leaf, "then": value(source), "$dynamicRef": "#x", "const": value(source)}
        case _:
            return value(source)


def regex(source: random.Random) -> str:
    size = source.choice((1, 5, 50, 1000))
    parts = (
        "a",
        ".",
        "(",
        ")",
        "[a-z]",
        "[^",
        "]",
        "*",
        "+",
        "?",
        "{3}",
        "{1,50000}",
        "|",
        "\\d",
        "\\p{L}",
        "(?=a)",
        "\\1",
        "(a+)+",
        "^",
        "$",
        "é",
    )
    return source.choice((
        "".join(source.choices(parts, k=source.choice((1, 5, 30)))),
        "(" * size + "a" + ")" * size,
        "(a|" * size + "b" + ")" * size,
        "(a?){" + str(size * 100) + "}",
        "[" + "a" * size + "]{" + str(size) + "}",
    ))  # fmt: skip


def lark(source: random.Random) -> str:
    size = source.choice(SIZES)
    return source.choice((
        "start: r0\n" + "".join(f"r{n}: r{n + 1}\n" for n in range(size)) + f'r{size}: "a"\n',
        "start: " + "(" * size + '"a"' + ")" * size,
        "start: " + " | ".join(f'"{n}"' for n in range(size + 1)),
        "start: start start | \"a\"",
        f'start: "a"{{{size},{size * 1000}}}',
        f"start: /{regex(source)}/",
        "start: T\nT: " + " ".join(f"/{regex(source)}/" for _ in range(3)),
        "%import common.NUMBER\n%ignore /\\s/\nstart: NUMBER" + source.choice(TEXTS),
        "".join(source.choices("start: \n|()[]{}*+?\"/~%a<>\\", k=min(size, 400))),
        "start: %json " + json.dumps(schema(source)),
    ))  # fmt: skip


# -- what is sent


def tools(source: random.Random) -> bytes:
    """A body for /v1/responses whose tools or format the model is to be held to."""
    body: dict[str, Any] = {"model": "default", "input": "x", "max_output_tokens": 1, "store": False}
    match source.randrange(4):
        case 0:
            shape = {
                "type": "grammar",
                "syntax": source.choice(("lark", "regex")),
                "definition": source.choice((lark, regex))(source),
            }
            body["tools"] = [{"type": "custom", "name": "t", "format": shape}]
        case 1:
            body["tools"] = [
                {"type": "function", "name": "f", "parameters": schema(source), "strict": source.random() < 0.5}
            ]
        case 2:
            body["text"] = {
                "format": {
                    "type": "json_schema",
                    "name": "s",
                    "schema": schema(source),
                    "strict": source.random() < 0.5,
                }
            }
        case _:
            body["tools"] = [
                {"type": "function", "name": f"f{n}", "parameters": schema(source)}
                for n in range(source.choice((0, 3, 40)))
            ]
    return json.dumps(body).encode()


def body(source: random.Random) -> bytes:
    size = source.choice((10, 1000, 100_000))
    piece = source.choice(("[", "{", '{"a":', "[],", '"', "\\ud800", "1", "-", " ", "nul", "1e9", "\0"))
    return source.choice((
        lambda: json.dumps(value(source)).encode(),
        lambda: json.dumps({"model": "default", "input": value(source), "max_output_tokens": 1}).encode(),
        lambda: (piece * (size // len(piece))).encode(),
        lambda: b'{"model": "default", "input": ' + (piece * (size // len(piece))).encode() + b"}",
        lambda: source.randbytes(min(size, 5000)),
    ))()  # fmt: skip


def head(source: random.Random) -> bytes:
    """A whole request as bytes, its head wrong in some way."""
    size = source.choice((1, 100, 5000, 70_000))
    method = source.choice((b"GET", b"POST", b"PUT", b"\0", b"G" * size, b"get", b""))
    path = source.choice(
        (b"/v1/models", b"/v1/responses", b"/" + b"a" * size, b"*", b"http://x/", b"/%00", b"/\xff", b"")
    )
    lines = [method + b" " + path + b" " + source.choice((b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b"", b"\0"))]
    names = (
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"upgrade",
        b"connection",
        b"expect",
        b"x" * size,
        b"",
        b"a b",
        b"origin",
        b"authorization",
    )
    values = (
        b"localhost",
        b"0",
        b"-1",
        b"5",
        b"9" * 30,
        b"chunked",
        b"chunked, chunked",
        b"websocket",
        b"upgrade",
        b"100-continue",
        b"y" * size,
        b"\0",
        b"\xff",
        b"[::1].evil",
        b"",
    )
    for _ in range(source.choice((0, 1, 2, 5, 300))):
        lines.append(source.choice(names) + source.choice((b": ", b":", b" : ", b"")) + source.choice(values))
    end = source.choice((b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r"))
    rest = source.choice(
        (
            b"",
            b"0\r\n\r\n",
            b"ffffffffffffffff\r\n",
            b"5\r\nabc",
            b"5;" + b"e" * size + b"\r\nabcde\r\n0\r\n\r\n",
            b"{}",
            source.randbytes(50),
        )
    )
    return end.join(lines) + end + end + rest


def frames(source: random.Random) -> bytes:
    """What follows a WebSocket handshake: frames, right and wrong."""
    out = b""
    for _ in range(source.choice((1, 2, 5))):
        payload = source.choice(
            (
                b"{}",
                body(source)[:60_000],
                b'{"type": "response.create", "response": ',
                source.randbytes(20),
                b"\xff\xfe",
            )
        )
        first = source.choice((0x81, 0x82, 0x01, 0x80, 0x88, 0x89, 0x8A, 0xF1, 0x8F, 0xC1))
        length = source.choice((len(payload), len(payload), len(payload), 0, 125, 2**16, 2**63))
        masked = source.choice((0x80, 0x80, 0x80, 0))
        if length < 126:
            out += bytes((first, masked | length))
        elif length < 2**16:
            out += bytes((first, masked | 126)) + length.to_bytes(2, "big")
        else:
            out += bytes((first, masked | 127)) + length.to_bytes(8, "big")
        out += (b"\0\0\0\0" if masked else b"") + payload
    return out


def archive(source: random.Random) -> bytes:
    """A zip of a skill, or nearly one."""
    manifest = "---\nname: fuzz\ndescription: d\n---\n"
    manifest = source.choice(
        (
            manifest,
            manifest + "x" * 50_000,
            "---\nname: " + source.choice(TEXTS) + "\n---\n",
            "---\n" + "a: {" * source.choice((5, 500)) + "\n---\n",
            "---\n" + "a: &a [*a]\n" + "---\n",
            "",
            "---\nname: fuzz\ndescription: |\n  " + source.choice(TEXTS) * 10 + "\n---\n",
        )
    )
    names = [
        "SKILL.md",
        "fuzz/SKILL.md",
        "../x",
        "/etc/x",
        "a\\b",
        "a//b",
        "CON",
        "a/" * 200 + "x",
        "\0",
        "é",
        "e\u0301",
        "A",
        "a",
        ".",
        "fuzz/" + "n" * 300,
    ]
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", source.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as file:
        for name in [source.choice(names[:2]), *source.choices(names, k=source.choice((0, 1, 4)))]:
            content = (
                manifest.encode("utf-8", "replace")
                if name.endswith("SKILL.md")
                else source.choice((b"", b"x", bytes(300_000), source.randbytes(50)))
            )
            info = zipfile.ZipInfo(name)
            info.external_attr = source.choice((0o100644, 0o120777, 0o040755, 0o010644, 0o104755, 0)) << 16
            file.writestr(info, content)
    data = made.getvalue()
    return near(source, data) if source.random() < 0.5 else data


def text(source: random.Random) -> bytes:
    """Text for a terminal."""
    parts = (
        "\x1b[",
        "\x1b]",
        "\x1b",
        "\x9b",
        "\x9d",
        "\x07",
        "\x1b\\",
        "31m",
        "2J",
        "0;t",
        "8;;u",
        "P",
        "_",
        "?25l",
        ";",
        "a",
        "é",
        "\r",
        "\n",
        "\t",
        "\b",
        "\u202e",
        "\ud800",
        "\ue000",
        "38;5;1m",
        "38;2;1m",
    )
    return "".join(source.choices(parts, k=source.choice((1, 5, 40, 2000)))).encode("utf-8", "surrogatepass")


KINDS: dict[str, Callable[[random.Random], bytes]] = {
    "tools": tools,
    "body": body,
    "head": head,
    "frames": frames,
    "zip": archive,
    "text": text,
}


def made(kind: str, seed: int) -> bytes:
    """The input of a kind with this seed."""
    source = random.Random(f"{kind} {seed}")
    known = sorted(CORPUS.glob(f"{kind}-*"))
    if known and source.random() < 0.25:
        return near(source, source.choice(known).read_bytes())
    return KINDS[kind](source)
