"""Lint: what a skill's folder says against the specification, and what is known to hurt, before anything runs.

`engine.lint` reads a folder and returns `Finding`s, sorted by place; each belongs to a `Rule` (id, level, reason), says
what is wrong where, and its cure; `fixing.fix` carries out those whose cure is mechanical. Rules stand beside their
checks (`frontmatter`, `description`, `references`, `scripts`, `leaks`); `engine.CHECKS` names the modules. No daemon is
asked and nothing is run: the same findings come from the command line, the TUI and the daemon.

A skill turns rules off for itself with a comment in its SKILL.md: `<!-- skilldeck-lint: ignore RULE RULE -->`.
"""
