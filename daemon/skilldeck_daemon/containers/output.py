"""What a command prints: bounded memory, live text, head and tail with an omission marker between.

The first half of the character budget is shown in order of arrival and leaves at once; of the rest only the last
bytes of each stream are kept, so a gigabyte costs no memory. Decoding is UTF-8 with replacement, incremental:
a character split over two reads arrives whole. The deltas of a stream, joined, are exactly its final text.
"""

from __future__ import annotations

import asyncio
import codecs
import os
from collections.abc import Callable

from skilldeck_daemon.containers.spec import Stream
from skilldeck_shared.output_limits import live_part

READ_SIZE = 256 * 1024
MARKER_ROOM = 48
"""Characters set aside for one omission marker."""
DRAIN_PAUSE_S = 0.05
DRAIN_MOST = 64
"""Pipes of one container that are drained. Processes could collect the ends of ever more calls; the oldest are closed
then, and whoever still writes there gets SIGPIPE."""


def marker(left_out: int) -> str:
    return f"\n[... {left_out} bytes left out ...]\n"


class _Stream:
    def __init__(self) -> None:
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.head: list[str] = []
        self.tail = bytearray()
        self.in_tail = False
        self.dropped = 0

    def ends_line(self) -> bool:
        if self.in_tail:
            return not self.tail or self.tail.endswith(b"\n")
        return not self.head or self.head[-1].endswith("\n")


class Capture:
    """Collects stdout and stderr of one command into at most `limit` characters together."""

    def __init__(self, limit: int, emit: Callable[[Stream, str], None]) -> None:
        self.limit = limit
        self._emit = emit
        self._head_left = live_part(limit)
        self._tail_limit = limit - self._head_left
        self._streams: dict[Stream, _Stream] = {"stdout": _Stream(), "stderr": _Stream()}

    def feed(self, name: Stream, data: bytes) -> None:
        """Takes bytes as they were read; may call `emit`."""
        stream = self._streams[name]
        if self._head_left:
            # One character is at most four bytes: what is certainly beyond the head is not decoded.
            part = data[: self._head_left * 4]
            text = stream.decoder.decode(part)
            kept = text[: self._head_left]
            if kept:
                self._head_left -= len(kept)
                stream.head.append(kept)
                self._emit(name, kept)
            if self._head_left or (len(kept) == len(text) and len(part) == len(data)):
                return
            pending = stream.decoder.getstate()[0]
            data = text[len(kept) :].encode() + pending + data[len(part) :]
            stream.decoder.reset()
            stream.in_tail = True
        elif not stream.in_tail:
            data = stream.decoder.getstate()[0] + data
            stream.decoder.reset()
            stream.in_tail = True
        room = self._tail_limit * 4
        stream.tail += data
        if len(stream.tail) > 2 * room:
            gone = len(stream.tail) - room
            del stream.tail[:gone]
            stream.dropped += gone

    def text(self, name: Stream) -> str:
        """What is kept of a stream so far."""
        stream = self._streams[name]
        return "".join(stream.head) + stream.tail.decode("utf-8", "replace")

    def finish(self, note: str = "") -> tuple[str, str, int]:
        """Ends the capture. `note` (why a limit ended the command) becomes the last line of stderr.

        Returns: final stdout, final stderr, bytes left out. What was not emitted yet is emitted now.
        """
        if note:
            start = "" if self._streams["stderr"].ends_line() else "\n"
            self.feed("stderr", f"{start}[{note}]\n".encode())
        tails: dict[Stream, str] = {}
        for name, stream in self._streams.items():
            pending = stream.decoder.decode(b"", final=True)
            if pending and self._head_left:
                self._head_left -= len(pending)
                stream.head.append(pending)
                self._emit(name, pending)
            if stream.dropped:
                # The cut may lie inside a character.
                start_at = 0
                while start_at < min(4, len(stream.tail)) and stream.tail[start_at] & 0xC0 == 0x80:
                    start_at += 1
                stream.dropped += start_at
                del stream.tail[:start_at]
            tails[name] = stream.tail.decode("utf-8", "replace")
        self._share(tails)
        omitted = 0
        final: dict[Stream, str] = {}
        for name, stream in self._streams.items():
            omitted += stream.dropped
            if tails[name]:
                self._emit(name, tails[name])
            final[name] = "".join(stream.head) + tails[name]
        return final["stdout"], final["stderr"], omitted

    def _share(self, tails: dict[Stream, str]) -> None:
        """Cuts both tails to the tail budget together; a short one is kept whole."""
        budget = self._tail_limit
        if not any(s.dropped for s in self._streams.values()) and sum(map(len, tails.values())) <= budget:
            return
        out, err = len(tails["stdout"]), len(tails["stderr"])
        half = budget // 2
        shares: dict[Stream, int] = {"stdout": half, "stderr": budget - half}
        if out < half:
            shares = {"stdout": out, "stderr": budget - out}
        elif err < half:
            shares = {"stdout": budget - err, "stderr": err}
        for name, stream in self._streams.items():
            text = tails[name]
            if len(text) <= shares[name] and not stream.dropped:
                continue
            room = shares[name] - MARKER_ROOM
            if room <= 0:
                stream.dropped += len(text.encode())
                tails[name] = ""
                continue
            cut = text[-room:]
            stream.dropped += len(text[: len(text) - len(cut)].encode())
            tails[name] = marker(stream.dropped) + cut


class Pump:
    """Reads a pipe on the event loop into a callback, until end of file, `close`, or `detach`."""

    def __init__(self, fd: int, sink: Callable[[bytes], None], loop: asyncio.AbstractEventLoop) -> None:
        self.fd = fd
        self._sink = sink
        self._loop = loop
        self._reading = False
        self.ended = False
        os.set_blocking(fd, False)
        self.resume()

    def resume(self) -> None:
        if not self._reading and not self.ended:
            self._reading = True
            self._loop.add_reader(self.fd, self._ready)

    def pause(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self.fd)

    def _ready(self) -> None:
        self._read()

    def _read(self) -> int:
        """Bytes read; 0 when there is nothing now or ever."""
        try:
            data = os.read(self.fd, READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            data = b""
        if not data:
            self.close()
            return 0
        self._sink(data)
        return len(data)

    def take_rest(self, most: int) -> None:
        """Reads what lies in the pipe now. Bounded: a background writer could go on forever."""
        while not self.ended and most > 0:
            count = self._read()
            if count == 0:
                return
            most -= count

    def detach(self) -> int | None:
        """Gives the descriptor away; None when the pipe has ended."""
        if self.ended:
            return None
        self.pause()
        self.ended = True
        return self.fd

    def close(self) -> None:
        if not self.ended:
            self.pause()
            self.ended = True
            os.close(self.fd)


class Drain:
    """Reads and discards what background processes go on writing, slowly, so they neither block nor cost CPU."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._open: dict[int, asyncio.TimerHandle | None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, fd: int) -> None:
        if len(self._open) >= DRAIN_MOST:
            oldest = next(iter(self._open))
            self._release(oldest, self._open.pop(oldest))
        self._open[fd] = None
        self._loop.add_reader(fd, self._read, fd)

    def _read(self, fd: int) -> None:
        self._loop.remove_reader(fd)
        try:
            data = os.read(fd, READ_SIZE)
        except (BlockingIOError, InterruptedError):
            data = b"."
        except OSError:
            data = b""
        if data:
            self._open[fd] = self._loop.call_later(DRAIN_PAUSE_S, self._again, fd)
        else:
            del self._open[fd]
            os.close(fd)

    def _again(self, fd: int) -> None:
        self._open[fd] = None
        self._loop.add_reader(fd, self._read, fd)

    def close(self) -> None:
        for fd, timer in self._open.items():
            self._release(fd, timer)
        self._open.clear()

    def _release(self, fd: int, timer: asyncio.TimerHandle | None) -> None:
        if timer is None:
            self._loop.remove_reader(fd)
        else:
            timer.cancel()
        os.close(fd)
