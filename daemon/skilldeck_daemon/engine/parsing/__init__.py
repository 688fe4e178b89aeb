"""The text a model writes, split into reasoning, text and tool calls while it is written."""
