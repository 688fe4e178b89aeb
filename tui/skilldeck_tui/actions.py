"""Every action of the TUI, once: the bindings, the command palette, the help and the keymap are made from this table.

An action belongs to a scope (a screen or a widget), which implements `action_NAME`. Its `id` is what the keymap in the
configuration file names:

    [tui.keys]
    "chat.new" = "ctrl+n"
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from textual.binding import Binding, BindingType


@dataclass(frozen=True)
class Action:
    """`scope.name`; `keys` is a comma-separated list, `show` puts it in the footer, `palette` in the palette.

    `slash` is what it is called behind a slash at the beginning of a message.
    """

    scope: str
    name: str
    keys: str
    title: str
    help: str
    show: bool = False
    palette: bool = True
    priority: bool = False
    call: str = ""
    key_display: str | None = None
    slash: str = ""

    @property
    def id(self) -> str:
        return f"{self.scope}.{self.name}"

    @property
    def action(self) -> str:
        return self.call or self.name

    @property
    def unbound(self) -> str:
        """A key that no keyboard has: Textual needs one for each binding, and the keymap only changes what there is."""
        return f"unbound_{self.name}"

    def binding(self) -> Binding:
        return Binding(
            self.keys or self.unbound, self.action, self.title, show=self.show, id=self.id,
            priority=self.priority, tooltip=self.help, key_display=self.key_display,
        )  # fmt: skip


SCOPES = {
    "app": "Everywhere",
    "chat": "Chat",
    "sessions": "Session list",
    "transcript": "Transcript",
    "composer": "Composer",
    "approval": "Approval",
    "skills": "Skills",
    "diff": "Diff",
    "lint": "Lint",
    "matrix": "Matrix",
    "trials": "Tries",
    "files": "Files",
    "daemon": "Daemon",
    "logs": "Log",
    "containers": "Containers",
    "models": "Models",
    "rules": "Always allowed",
}

ACTIONS = (
    Action("app", "help", "f1", "Help", "Keys of this screen and what they do.", show=True, call="show_help_screen",
           slash="help"),
    Action("app", "chat", "1,f2", "Chat", "Talk to the model and watch what it runs.", call="mode('chat')"),
    Action("app", "skills", "2,f3", "Skills", "Author, watch and compare skills.", call="mode('skills')",
           slash="skills"),
    Action("app", "files", "3,f4", "Files", "Files that runs may be given.", call="mode('files')"),
    Action("app", "daemon", "4,f5", "Daemon", "Models, containers and the log.", call="mode('daemon')"),
    Action("app", "palette", "ctrl+p", "Palette", "Find and run any action.", show=True, palette=False,
           call="command_palette", priority=True),
    Action("app", "approvals", "ctrl+y", "Approvals", "Go to the next command that waits for a yes.", priority=True,
           call="next_approval"),
    Action("app", "jump", "f6", "Jump", "Put the focus anywhere with one letter.", call="jump", priority=True),
    Action("app", "theme", "f8", "Theme", "Next theme: dark, light, ANSI.", call="next_theme", slash="theme"),
    Action("app", "screenshot", "f12", "Screenshot", "Save the screen as an SVG.", call="save_picture"),
    Action("app", "interrupt", "ctrl+c", "Stop", "Stop the run that is shown; twice: quit.", palette=False),
    Action("app", "quit", "ctrl+q", "Quit", "Leave; the daemon goes on.", priority=True, slash="quit"),
    Action("chat", "new", "ctrl+n", "New", "Start a new session.", show=True, call="new_session", slash="new"),
    Action("chat", "previous", "alt+up,ctrl+up", "Previous session", "Show the session above."),
    Action("chat", "next", "alt+down,ctrl+down", "Next session", "Show the session below."),
    Action("chat", "sidebar", "ctrl+b", "Sessions", "Show or hide the session list.", show=True, call="toggle_sidebar"),
    Action("chat", "attach", "ctrl+o", "Attach", "Attach a file to the next message.", show=True, slash="attach"),
    Action("chat", "find", "ctrl+f", "Find", "Find text in the transcript.", show=True, slash="find"),
    Action("chat", "escape", "escape", "Leave", "Leave the composer for the transcript, or come back.", palette=False),
    Action("chat", "stop", "", "Stop the run", "Cancel the run that is shown.", call="stop", slash="stop"),
    Action("chat", "rename", "", "Rename", "Name this session.", slash="rename"),
    Action("chat", "export_markdown", "f9", "Export", "Save the transcript as Markdown.", slash="export"),
    Action("chat", "export_json", "", "Export as JSON", "Save the transcript as JSON."),
    Action("chat", "save_test", "ctrl+t", "Save as test", "Make a test of the skill of what was asked last."),
    Action("chat", "retry", "", "Ask again", "Ask the last message again; the answer it had stays in its session.",
           slash="retry"),
    Action("chat", "edit", "", "Edit message", "Change the last message; what followed it stays in its session.",
           slash="edit"),
    Action("chat", "rewind", "", "Rewind", "Go on from an earlier message; what followed it stays in its session.",
           slash="rewind"),
    Action("chat", "fork", "", "Fork", "Go on in a second session that begins as this one.", slash="fork"),
    Action("chat", "compact", "", "Compact", "Put a summary in place of what the model reads of this session.",
           slash="compact"),
    Action("chat", "compare", "", "Compare", "Show this session and another one side by side.", slash="compare"),
    Action("chat", "skill_use", "", "Skills' part", "What the run's skills did: what was read, ran, and was made.",
           slash="trace"),
    Action("chat", "earlier", "ctrl+home", "Earlier", "Go to the top, and load earlier runs of this session.",
           priority=True),
    Action("chat", "latest", "ctrl+end", "Latest", "Go to the end of the transcript and follow it.", priority=True),
    Action("chat", "model", "ctrl+l", "Model", "Choose the model of the next message.", call="pick_model",
           priority=True, slash="model"),
    Action("chat", "permission", "f7", "Permission", "Ask before each command, refuse all, or as the daemon says.",
           call="next_permission", priority=True, slash="permission"),
    Action("chat", "network", "", "Network", "Hosts that commands may reach, and variables put into requests to them.",
           call="ask_network", slash="network"),
    Action("chat", "made", "", "Files made", "Look at a file that a run of this session made.", slash="files"),
    Action("chat", "sessions", "ctrl+k", "Find session", "Go to a session by its title or by what was said.",
           priority=True, slash="sessions"),
    Action("chat", "delete_runs", "", "Delete other runs", "Delete all runs that belong to no session."),
    Action("chat", "delete", "", "Delete session", "Delete this session.", call="delete_session", slash="delete"),
    Action("sessions", "mark", "space", "Mark", "Mark the row, to delete several at once.", show=True, palette=False),
    Action("sessions", "delete", "d,delete", "Delete", "Delete the session, or all that are marked.", show=True,
           palette=False, call="delete_session"),
    Action("sessions", "compare", "c", "Compare", "Show the session beside the one that is open.", show=True,
           palette=False, call="compare_session"),
    Action("transcript", "up", "up,k", "Up", "Select the item above.", palette=False, call="cursor(-1)"),
    Action("transcript", "down", "down,j", "Down", "Select the item below.", palette=False, call="cursor(1)"),
    Action("transcript", "fold", "enter,space", "Fold", "Fold or unfold the item.", show=True),
    Action("transcript", "copy", "c", "Copy", "Copy the item.", show=True),
    Action("transcript", "copy_block", "y", "Copy code", "Copy one block: code, a command, its output; then the next.",
           palette=False),
    Action("transcript", "copy_code", "C", "Copy all", "Copy the whole transcript as Markdown.", call="copy_all",
           slash="copy"),
    Action("transcript", "export", "e", "Export item", "Save the item as Markdown.", call="export_item"),
    Action("transcript", "find", "slash", "Find", "Find text in the transcript.", show=True, palette=False),
    Action("transcript", "find_next", "n", "Next match", "Go to the next match.", palette=False, call="match(1)"),
    Action("transcript", "find_previous", "N", "Previous match", "Go to the one before.", palette=False,
           call="match(-1)"),
    Action("transcript", "home", "g,home", "Top", "Go to the beginning.", palette=False, call="edge(-1)"),
    Action("transcript", "end", "G,end", "End", "Go to the end and follow.", palette=False, call="edge(1)"),
    Action("transcript", "made", "f", "Files made", "Look at a file that a run of this session made.", palette=False,
           call="screen.made"),
    Action("transcript", "retry", "r", "Ask again", "Ask this message again, in a branch.", palette=False,
           call="screen.retry_here"),
    Action("transcript", "edit", "b", "Back to here", "Change this message and go on from it, in a branch.",
           palette=False, call="screen.edit_here"),
    Action("transcript", "fork", "B", "Fork here", "Go on from the end of this run in a second session.",
           palette=False, call="screen.fork_here"),
    Action("transcript", "skill_use", "s", "Skills' part", "What the run's skills did: read, ran, made.", palette=False,
           call="screen.skill_use"),
    Action("transcript", "write", "i", "Write", "Go to the composer.", show=True, palette=False),
    Action("composer", "send", "enter", "Send", "Send the message; while a run is live it joins at its next turn.",
           show=True, palette=False, priority=True, key_display="enter"),
    Action("composer", "later", "alt+enter", "Send after", "Send the message when the run is over; tab does, too.",
           palette=False, priority=True),
    Action("composer", "newline", "shift+enter,ctrl+j", "Newline", "Begin a new line.", palette=False, priority=True),
    Action("composer", "page_up", "pageup", "Page up", "Scroll the transcript up.", palette=False, priority=True,
           call="page(-1)"),
    Action("composer", "page_down", "pagedown", "Page down", "Scroll the transcript down.", palette=False,
           priority=True, call="page(1)"),
    Action("composer", "skills", "ctrl+s", "Choose skills", "Choose the skills of the next message.",
           call="choose_skill", palette=False),
    Action("composer", "search", "ctrl+r", "Sent before", "Find a message that was sent before, to send or change it.",
           palette=False, priority=True),
    Action("composer", "editor", "ctrl+g", "Editor", "Write on in $EDITOR.", palette=False, priority=True),
    Action("approval", "once", "y,1", "Once", "Run it this time.", palette=False, call="decide('once')"),
    Action("approval", "session", "s,2", "Session", "Run it, and the same again in this session.", palette=False,
           call="decide('session')"),
    Action("approval", "always", "a,3", "Always", "Show the rule, then run it always.", palette=False,
           call="decide('always')"),
    Action("approval", "deny", "n,4", "Deny", "Do not run it.", palette=False, call="decide('deny')"),
    Action("approval", "note", "d,5", "Deny with note", "Do not run it, and tell the model why.", palette=False,
           call="decide('note')"),
    Action("skills", "add", "a", "Add folder", "Upload and watch a skill folder.", show=True, call="add_folder"),
    Action("skills", "examples", "x", "Examples", "Upload the example skills.", call="upload_examples"),
    Action("skills", "watch", "w", "Watch", "Watch the skill's folder, or stop.", show=True, call="toggle_watch"),
    Action("skills", "diff", "v", "Diff", "Compare two versions.", show=True),
    Action("skills", "promote", "p", "Promote", "Make the selected version the default.", show=True),
    Action("skills", "edit", "e", "Edit", "Open SKILL.md in your editor, at the error.", show=True),
    Action("skills", "test", "t", "Test", "Run the skill's tests (evals/*.yaml), or stop them.", show=True),
    Action("skills", "test_on_save", "T", "Test on save", "Run the tests after every save, or no longer."),
    Action("skills", "open_run", "o", "Open test run", "Show the run of a failed (or the last) test in Chat."),
    Action("skills", "lint", "l", "Lint", "What lint finds in the skill, each with its reason and cure."),
    Action("skills", "new", "n", "New", "Make a skill from a template, and watch it.", call="new_skill"),
    Action("skills", "matrix", "m", "Matrix", "Tests by models and versions; a cell opens its runs."),
    Action("skills", "trust", "r", "Trust", "Trust the project of a skill on disk, or no longer."),
    Action("skills", "use", "u", "Use in chat", "Choose the skill for the next message.", call="use"),
    Action("skills", "delete", "d,delete", "Delete", "Delete the skill or the selected version.", show=True),
    Action("skills", "back", "escape", "Back", "Back to the list.", palette=False),
    Action("lint", "close", "escape,q", "Close", "Close the list.", show=True, palette=False, call="close"),
    Action("lint", "edit", "e", "Edit", "Open your editor at the place.", show=True, palette=False),
    Action("lint", "fix", "f", "Mend", "Mend all that is mechanical.", show=True, palette=False),
    Action("matrix", "close", "escape,q", "Close", "Close the matrix.", show=True, palette=False, call="close"),
    Action("matrix", "run", "r", "Run", "Run it: the last two versions, and none; or stop it.", show=True,
           palette=False),
    Action("matrix", "open", "o", "Runs", "Open the runs of the cell.", show=True, palette=False),
    Action("matrix", "older", "left_square_bracket", "Older", "Show the evaluation before.", show=True, palette=False,
           call="other(1)", key_display="["),
    Action("matrix", "newer", "right_square_bracket", "Newer", "Show the one after.", show=True, palette=False,
           call="other(-1)", key_display="]"),
    Action("matrix", "report", "h", "HTML", "Write it as one HTML page and open that.", show=True, palette=False),
    Action("trials", "close", "escape,q", "Close", "Close, or leave the comparison.", show=True, palette=False,
           call="close"),
    Action("trials", "compare", "c", "Compare", "Mark this try; at another, show both side by side.", show=True,
           palette=False),
    Action("trials", "open_run", "o", "Open in Chat", "Show the run in Chat.", show=True, palette=False),
    Action("diff", "close", "escape,q", "Close", "Close the diff.", show=True, palette=False, call="close"),
    Action("diff", "older", "left_square_bracket", "Older", "Compare with an older version.", show=True, palette=False,
           call="shift(-1)", key_display="["),
    Action("diff", "newer", "right_square_bracket", "Newer", "Compare with a newer version.", show=True, palette=False,
           call="shift(1)", key_display="]"),
    Action("diff", "swap", "s", "Swap", "Swap the two versions.", show=True, palette=False),
    Action("diff", "next", "n,j", "Next file", "Show the next changed file.", show=True, palette=False, call="file(1)"),
    Action("diff", "previous", "N,k", "Previous file", "Show the changed file before.", palette=False, call="file(-1)"),
    Action("diff", "copy", "c,y", "Copy", "Copy the diff.", palette=False),
    Action("files", "upload", "u,a", "Upload", "Upload a file.", show=True),
    Action("files", "attach", "t", "Attach to chat", "Attach the file to the next message.", show=True),
    Action("files", "copy_id", "c,y", "Copy id", "Copy the file's id.", show=True),
    Action("files", "delete", "d,delete", "Delete", "Delete the file.", show=True),
    Action("daemon", "level", "l", "Log level", "Show records of this level and above.", show=True),
    Action("daemon", "find", "slash,ctrl+f", "Find", "Find text in the log.", show=True),
    Action("daemon", "follow", "f", "Follow", "Follow the end of the log.", show=True),
    Action("daemon", "load", "o", "Load model", "Load a model by folder or Hugging Face name.", show=True),
    Action("daemon", "section_next", "right_square_bracket", "Next section", "Show the next section of a small screen.",
           palette=False, call="section(1)"),
    Action("daemon", "section_before", "left_square_bracket", "Section before", "Show the section before.",
           palette=False, call="section(-1)"),
    Action("models", "unload", "d,delete", "Unload", "Unload the model.", show=True, palette=False,
           call="screen.unload"),
    Action("containers", "kill", "d,delete", "Kill", "Stop the container and delete its files.", show=True,
           palette=False, call="screen.kill"),
    Action("containers", "save", "s", "Save file", "Save the container's file here.", show=True, palette=False,
           call="screen.save"),
    Action("rules", "edit", "e", "Edit", "Change what the rule covers.", show=True, palette=False,
           call="screen.edit_rule"),
    Action("rules", "revoke", "d,delete", "Revoke", "Ask again from now on.", show=True, palette=False,
           call="screen.revoke"),
    Action("logs", "next", "n", "Next match", "Go to the next match.", palette=False, call="match(1)"),
    Action("logs", "previous", "N", "Previous match", "Go to the match before.", palette=False, call="match(-1)"),
    Action("logs", "copy", "c,y", "Copy", "Copy the log.", palette=False),
)  # fmt: skip

SLASH = {action.slash: action for action in ACTIONS if action.slash}
BY_ID = {action.id: action for action in ACTIONS}


def bindings(scope: str) -> list[BindingType]:
    """The bindings of a screen or widget; actions without a key wait for the keymap to give them one."""
    return [action.binding() for action in ACTIONS if action.scope == scope]


def keymap(wished: Mapping[str, str]) -> dict[str, str]:
    """The keys of actions by id, as a person wishes them, and what these take from others: an action of the whole app
    takes its keys everywhere, another one within its scope. "": none is left."""
    found = dict(wished)
    for action in ACTIONS:
        taken = {
            key.strip()
            for name, keys in wished.items()
            if name.partition(".")[0] in ("app", action.scope) and name != action.id
            for key in keys.split(",")
        }
        kept = [key for key in action.keys.split(",") if key not in taken]
        if action.id not in wished and ",".join(kept) != action.keys:
            found[action.id] = ",".join(kept)
    return found


def key_of(id_: str, wished: Mapping[str, str]) -> str:
    """The key of an action to be shown where a person may be writing: the first that writes nothing; or ""."""
    keys = keymap(wished).get(id_, BY_ID[id_].keys).split(",")
    shown = next((key.strip() for key in keys if len(key.strip()) > 1), "")
    return shown.upper() if re.fullmatch(r"f\d+", shown) else shown.replace("ctrl+", "^")


def of(scope: str) -> list[Action]:
    return [action for action in ACTIONS if action.scope == scope]
