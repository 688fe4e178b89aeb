"""Events in order, of which those that stand next to each other and are of one kind become one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Generic, TypeVar

E = TypeVar("E")


class Neighbours(Generic[E]):
    """A queue of events. No event overtakes another, and merging costs once, when they are taken.

    Args:
        key: equal for neighbours that become one; None for an event that stays as it is.
        merge: makes one event of two or more.
        most: events that become one, at the most; 0 for no limit.
    """

    def __init__(self, key: Callable[[E], Hashable | None], merge: Callable[[list[E]], E], *, most: int = 0) -> None:
        self._key, self._merge, self._most = key, merge, most
        self._groups: deque[tuple[Hashable | None, list[E]]] = deque()

    def __len__(self) -> int:
        """How many events will be taken."""
        return len(self._groups)

    def add(self, event: E) -> bool:
        """Put an event at the end. Whether it has a key."""
        key = self._key(event)
        if key is not None and self._groups:
            last, events = self._groups[-1]
            if last == key and (not self._most or len(events) < self._most):
                events.append(event)
                return True
        self._groups.append((key, [event]))
        return key is not None

    def take(self) -> E:
        """The first event, with its neighbours. There must be one."""
        _, events = self._groups.popleft()
        return events[0] if len(events) == 1 else self._merge(events)

    def take_all(self) -> list[E]:
        """All there are now."""
        return [self.take() for _ in range(len(self._groups))]


def joined(events: Iterable[E], key: Callable[[E], Hashable | None], merge: Callable[[list[E]], E]) -> Iterator[E]:
    """The same events with neighbours of one key merged; each is given as soon as the next one is another."""
    waiting = Neighbours(key, merge)
    for event in events:
        waiting.add(event)
        if len(waiting) > 1:
            yield waiting.take()
    if waiting:
        yield waiting.take()
