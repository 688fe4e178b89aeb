"""The files of one version of a skill."""

from __future__ import annotations

from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.widgets import Tree
from textual.widgets.tree import TreeNode

from skilldeck_shared.terminal import clean
from skilldeck_tui.state import Object
from skilldeck_tui.text.format import size
from skilldeck_tui.text.rich_text import rich_text


class FileTree(Tree[Object]):
    DEFAULT_CSS = """
    FileTree { height: auto; max-height: 12; background: transparent; padding: 0; scrollbar-size-vertical: 1; }
    """

    class Chosen(Message):
        def __init__(self, path: str, bytes_: int) -> None:
            super().__init__()
            self.path, self.bytes = path, bytes_

    class Opened(Message):
        """The file that is chosen is to be read."""

    def __init__(self) -> None:
        super().__init__("")
        self.show_root = False
        self.guide_depth = 2

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        # Textual counts the lines when it draws them, and never draws a tree that is none high.
        return self.last_line + 1

    def show(self, files: list[Object], keep: bool = False) -> None:
        """`files` as `Client.skill_tree` gives them. SKILL.md is chosen, or with `keep` the file that was before."""
        chosen = str(self.cursor_node.data["path"]) if keep and self.cursor_node and self.cursor_node.data else ""
        self.clear()
        folders: dict[str, TreeNode[Object]] = {"": self.root}
        first = None
        for file in sorted(files, key=lambda f: (str(f["path"]).lower() != "skill.md", str(f["path"]))):
            *parents, name = str(file["path"]).split("/")
            node = self.root
            for depth in range(len(parents)):
                key = "/".join(parents[: depth + 1])
                if key not in folders:
                    folders[key] = node.add(f"{clean(parents[depth])}/", expand=True)
                node = folders[key]
            mark = "*" if file.get("executable") else ""
            label = Content.assemble(
                clean(name), (mark, "$success"), (f"  {size(int(file.get('bytes') or 0))}", "$faint")
            )
            leaf = node.add_leaf(rich_text(label, self.app.theme_variables), data=file)
            first = leaf if first is None or file["path"] == chosen else first
        self.root.expand()
        if first is not None:
            self.call_after_refresh(self.move_cursor, first)
            # The same line of another tree is no move of the cursor, and would be no event.
            self._choose(first)

    def on_tree_node_highlighted(self, event: Tree.NodeHighlighted[Object]) -> None:
        event.stop()
        self._choose(event.node)

    def on_tree_node_selected(self, event: Tree.NodeSelected[Object]) -> None:
        event.stop()
        if event.node.data:
            self.post_message(self.Opened())

    def _choose(self, node: TreeNode[Object]) -> None:
        if node.data:
            self.post_message(self.Chosen(str(node.data["path"]), int(node.data.get("bytes") or 0)))
