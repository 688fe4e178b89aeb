"""How a model calls the daemon's own shell: in the form of its family (json), or by a ```bash block of commands.

Every model has seen more of such blocks than of any family's calls. With the block Qwen2.5-Coder (0.5B and 1.5B,
whose template does show tools) ran 9 and 10 of 10 skills, with JSON none. Large models, and those that reason, were
trained to call functions and are left to it.
"""

from __future__ import annotations

from skilldeck_daemon.engine.chat.template import ChatTemplate
from skilldeck_daemon.engine.families import Family

AUTO, JSON, BASH = "auto", "json", "bash"
STYLES = (AUTO, JSON, BASH)
SMALL = 2_000_000_000
"""Parameters up to which "auto" chooses the block for a model whose template shows tools."""


def choose(style: str, family: Family, template: ChatTemplate, parameters: int) -> str:
    """json or bash. The block needs a family whose text is read for calls, and a template not made for skills."""
    if not family.text_calls or template.places_skills:
        return JSON
    if style != AUTO:
        return style
    thinks = bool(family.think_open) and family.think_open in template.source
    small = 0 < parameters <= SMALL and not thinks
    return BASH if small or family.describe_tools or not template.shows_tools else JSON
