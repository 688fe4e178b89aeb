"""A table that is given its rows: cells change in place, the cursor stays on its row."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.text import Text
from textual.binding import Binding
from textual.content import Content
from textual.widgets import DataTable
from textual.widgets.data_table import RowDoesNotExist

from skilldeck_tui.text.rich_text import rich_text

Cells = Sequence[Content | str]
LEAST = 8
"""Columns below which the end of a text says nothing."""


class DataRows(DataTable[Text]):
    """`show(rows)` with (key, cells); rows keep the order given.

    Every column but two is as wide as its content. The last takes the room that the others leave: longer text loses its
    beginning (of a path the end says most), and without room the column goes. Where that is not enough, the first is
    cut at its end: a long name must not push what is said of it off the screen.
    """

    BINDINGS = [
        Binding("home,g", "scroll_top", "First", show=False),
        Binding("end,G", "scroll_bottom", "Last", show=False),
        Binding("j", "cursor_down", "Down", show=False),
        Binding("k", "cursor_up", "Up", show=False),
    ]
    DEFAULT_CSS = """
    DataRows { height: 1fr; background: transparent; scrollbar-size-vertical: 1; scrollbar-size-horizontal: 0; }
    DataRows > .datatable--header { background: transparent; color: $faint; text-style: none; }
    DataRows > .datatable--cursor { background: $block-cursor-blurred-background; color: $foreground; }
    DataRows:focus > .datatable--cursor { background: $block-cursor-background; color: $block-cursor-foreground; }
    """

    def __init__(self, columns: Sequence[str], *, least: int = LEAST, **kwargs: str) -> None:
        """`least`: columns below which the last one goes."""
        super().__init__(cursor_type="row", show_row_labels=False, **kwargs)  # type: ignore[arg-type]
        self._labels, self._least = tuple(columns), least
        self._room = 0
        self._given: list[tuple[str, Cells]] = []
        self._shown: dict[str, Cells] = {}
        self._theme = ""

    def on_mount(self) -> None:
        for label in self._labels:
            self.add_column(label, key=label, width=len(label))

    def on_resize(self) -> None:
        # A frame may come between the new size and this event: the table then paints rows it kept for the old width,
        # and does not look at them again by itself.
        self.refresh()
        if self._room != self.scrollable_content_region.width:
            self.show(self._given)

    def show(self, rows: Sequence[tuple[str, Cells]]) -> None:
        self._given = list(rows)
        if not self.columns:
            return
        rows = self._fitted(rows)
        new = dict(rows)
        self._widths([cells for _, cells in rows])
        if list(new) == list(self._shown) and self._theme == self.app.theme:
            for key, cells in new.items():
                for label, cell, old in zip(self._labels, cells, self._shown[key], strict=True):
                    if cell != old:
                        self.update_cell(key, label, self._text(cell))
        else:
            kept, self._theme = self.current, self.app.theme
            self.clear()
            for key, cells in rows:
                self.add_row(*map(self._text, cells), key=key)
            if kept in new:
                self.move_cursor(row=list(new).index(kept), animate=False)
        self._shown = new

    def _fitted(self, rows: Sequence[tuple[str, Cells]]) -> list[tuple[str, Cells]]:
        self._room = self.scrollable_content_region.width
        padding = 2 * self.cell_padding
        widths = [
            max([len(label), *(_width(cells[position]) for _, cells in rows)])
            for position, label in enumerate(self._labels)
        ]
        left = (self._room or 1000) - sum(width + padding for width in widths[:-1])
        last = left - padding
        last = last if last >= min(widths[-1], max(self._least, len(self._labels[-1]))) else 0
        self.ordered_columns[-1].label = Text(self._labels[-1] if last else "")
        # A column without width still has its padding.
        first = max(LEAST, widths[0] + min(0, left if last else left - padding))
        return [(key, (_begin(cells[0], first), *cells[1:-1], _end(cells[-1], last))) for key, cells in rows]

    def _widths(self, rows: Sequence[Cells]) -> None:
        """As wide as the content. The table's own measuring happens when it is idle, and misses rows that were replaced
        before."""
        for position, column in enumerate(self.ordered_columns):
            width = max([len(column.label), *(_width(cells[position]) for cells in rows)])
            if width != column.width:
                column.width = width
                self._require_update_dimensions = True

    @property
    def current(self) -> str:
        """The key of the row under the cursor; empty when there is none."""
        if not self.row_count or not self.is_valid_row_index(self.cursor_row):
            return ""
        return str(self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value)

    def select(self, key: str) -> None:
        try:
            self.move_cursor(row=self.get_row_index(key), animate=False)
        except RowDoesNotExist:
            pass

    def _text(self, cell: Content | str) -> Text:
        return rich_text(cell, self.app.theme_variables)


def _width(cell: Content | str) -> int:
    return cell_len(cell if isinstance(cell, str) else cell.plain)


def _begin(cell: Content | str, room: int) -> Content | str:
    """The beginning of a text that is too long."""
    if _width(cell) <= room:
        return cell
    rest = cell[: room - 1]
    return f"{rest}…" if isinstance(rest, str) else Content.assemble(rest, Content.styled("…", "$faint"))


def _end(cell: Content | str, room: int) -> Content | str:
    """The end of a text that is too long."""
    excess = _width(cell) - room
    if excess <= 0:
        return cell
    if room <= 0:
        return ""
    rest = cell[excess + 1 :]
    return f"…{rest}" if isinstance(rest, str) else Content.assemble(Content.styled("…", "$faint"), rest)
