"""A table that is told its rows: cells change in place, the cursor stays on its row."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.text import Text
from textual.binding import Binding
from textual.content import Content
from textual.widgets import DataTable
from textual.widgets.data_table import RowDoesNotExist

from skilldeck_tui.rich_text import rich_text

Cells = Sequence[Content | str]


class DataRows(DataTable[Text]):
    """`show(rows)` with (key, cells); rows keep the order given."""

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

    def __init__(self, columns: Sequence[str], **kwargs: str) -> None:
        super().__init__(cursor_type="row", show_row_labels=False, **kwargs)  # type: ignore[arg-type]
        self._labels = tuple(columns)
        self._shown: dict[str, Cells] = {}
        self._theme = ""

    def on_mount(self) -> None:
        for label in self._labels:
            self.add_column(label, key=label, width=len(label))

    def show(self, rows: Sequence[tuple[str, Cells]]) -> None:
        new = dict(rows)
        if not self.columns:
            return
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

    def _widths(self, rows: Sequence[Cells]) -> None:
        """As wide as the content. The table's own measuring happens when it is idle, and misses rows that were replaced
        before."""
        for position, (label, column) in enumerate(zip(self._labels, self.ordered_columns, strict=True)):
            texts = [cells[position] for cells in rows]
            width = max([len(label), *(cell_len(t if isinstance(t, str) else t.plain) for t in texts)])
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
