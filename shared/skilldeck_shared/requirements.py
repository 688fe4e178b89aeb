"""Python packages as they are asked for (PEP 508) and as an index names them (PEP 503).

What reads them is imported at the first use: nothing that starts needs it, and it takes 9 ms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.requirements import Requirement


def requirement(text: str) -> Requirement | None:
    """None where the text is none."""
    from packaging import requirements

    try:
        return requirements.Requirement(text)
    except requirements.InvalidRequirement:
        return None


def canonical(name: str) -> str:
    """The name as an index has it."""
    from packaging.utils import canonicalize_name

    return canonicalize_name(name)
