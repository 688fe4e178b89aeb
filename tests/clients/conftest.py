"""Every answer of a daemon in these tests is held against the specifications (`support.witness`)."""

from support.witness import answers_keep_the_specification, witnessed

__all__ = ["answers_keep_the_specification", "witnessed"]
