"""Grammars that make malformed calls and structured output impossible, and what of a client's they may hold."""
