"""Captured output: bounded, head and tail, and the deltas are exactly the final text."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.containers.support import needs_bwrap, sh
from skilldeck_daemon.containers import Container, OutputPiece
from skilldeck_daemon.containers.output import Capture
from skilldeck_daemon.containers.spec import Stream
from skilldeck_shared.output_limits import live_part


def run(limit: int, chunks: Iterable[tuple[Stream, bytes]], note: str = "") -> tuple[str, str, int, dict[str, str]]:
    deltas = {"stdout": "", "stderr": ""}

    def emit(stream: Stream, text: str) -> None:
        deltas[stream] += text

    capture = Capture(limit, emit)
    for stream, data in chunks:
        capture.feed(stream, data)
    out, err, omitted = capture.finish(note)
    return out, err, omitted, deltas


streams = st.sampled_from(["stdout", "stderr"])
pieces = st.one_of(st.binary(max_size=300), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))


@given(st.integers(0, 2000), st.lists(st.tuples(streams, pieces), max_size=40))
def test_any_output_fits_its_limit_and_equals_its_deltas(limit: int, chunks: list[tuple[Stream, bytes]]) -> None:
    out, err, omitted, deltas = run(limit, chunks)
    assert len(out) + len(err) <= limit
    assert deltas == {"stdout": out, "stderr": err}
    (out + err).encode()
    total = sum(len(data) for _, data in chunks)
    if total <= limit:
        assert omitted == 0
        for name, text in (("stdout", out), ("stderr", err)):
            assert text == b"".join(d for s, d in chunks if s == name).decode("utf-8", "replace")
    if omitted == 0:
        assert not total or limit


@given(st.text(max_size=300), st.lists(st.integers(1, 7), min_size=1))
def test_characters_split_between_reads_arrive_whole(text: str, sizes: list[int]) -> None:
    data = text.encode("utf-8", "replace")
    chunks: list[tuple[Stream, bytes]] = []
    at = number = 0
    while at < len(data):
        size = sizes[number % len(sizes)]
        chunks.append(("stdout", data[at : at + size]))
        at += size
        number += 1
    assert run(10_000, chunks)[0] == data.decode()


def test_long_output_keeps_head_and_tail_and_says_how_much_is_missing() -> None:
    lines = b"".join(b"%06d\n" % number for number in range(100_000))
    out, _, omitted, _ = run(2000, [("stdout", lines[at : at + 65536]) for at in range(0, len(lines), 65536)])
    assert out.startswith("000000\n000001\n")
    assert out.endswith("099999\n")
    assert f"[... {omitted} bytes left out ...]" in out
    shown = len(out) - len(f"\n[... {omitted} bytes left out ...]\n")
    assert shown + omitted == len(lines)


def test_a_short_stderr_is_kept_whole_beside_a_flood() -> None:
    out, err, omitted, _ = run(2000, [("stdout", b"x" * 1_000_000), ("stderr", b"the reason\n")])
    assert err == "the reason\n"
    assert omitted > 990_000
    assert "left out" in out


def test_a_tiny_limit_keeps_the_head_only() -> None:
    assert run(5, [("stdout", b"hello world")]) == ("hello", "", 6, {"stdout": "hello", "stderr": ""})
    assert run(0, [("stdout", b"hello")])[:3] == ("", "", 5)


def test_memory_does_not_grow_with_output() -> None:
    capture = Capture(1000, lambda stream, text: None)
    for _ in range(1000):
        capture.feed("stdout", b"y\n" * 50_000)
        assert len(capture._streams["stdout"].tail) <= 2 * 4 * 1000
    assert capture.finish()[2] > 99_000_000


def test_a_note_is_the_last_line_of_stderr() -> None:
    _, err, _, deltas = run(1000, [("stderr", b"no newline")], note="memory limit exceeded")
    assert err == deltas["stderr"] == "no newline\n[memory limit exceeded]\n"


@needs_bwrap
@pytest.mark.parametrize("limit", [100, 4096, None])
async def test_a_flood_from_a_real_command_is_bounded(container: Container, limit: int | None) -> None:
    seen: list[str] = []

    def on_output(delta: OutputPiece) -> None:
        seen.append(delta.text)

    result = await sh(
        container, "yes 0123456789 | head -c 64M; echo; echo last", max_output_length=limit, on_output=on_output
    )
    most = limit or 65_536
    assert result.exit_code == 0
    assert len(result.stdout) + len(result.stderr) <= most
    assert result.truncated_bytes >= 64 * 1024**2 - most * 4
    assert "".join(seen) == result.stdout
    assert result.stdout.startswith("0123456789\n")
    if most > 200:
        assert result.stdout.endswith("last\n")


@needs_bwrap
async def test_an_endless_flood_times_out_with_head_and_tail(container: Container) -> None:
    result = await sh(container, "yes", timeout_ms=400, max_output_length=1000)
    assert result.timed_out
    assert result.stdout.startswith("y\ny\n")
    assert "left out" in result.stdout
    assert len(result.stdout) <= 1000


@needs_bwrap
async def test_a_slow_listener_loses_nothing(container: Container) -> None:
    seen: list[str] = []

    async def slow(delta: OutputPiece) -> None:
        await asyncio.sleep(0.01)
        seen.append(delta.text)

    result = await sh(container, "seq 200000", max_output_length=5_000_000, on_output=slow)
    assert "".join(seen) == result.stdout == "".join(f"{n}\n" for n in range(1, 200_001))


@given(st.integers(0, 2000), st.integers(1, 4000))
def test_what_leaves_before_the_end_is_the_live_part_of_the_limit(limit: int, written: int) -> None:
    live: list[str] = []
    capture = Capture(limit, lambda stream, text: live.append(text))
    capture.feed("stdout", b"x" * written)
    assert len("".join(live)) == min(written, live_part(limit))
