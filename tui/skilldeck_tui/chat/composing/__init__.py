"""The message that is being written: what it names and offers, what was sent before it."""
