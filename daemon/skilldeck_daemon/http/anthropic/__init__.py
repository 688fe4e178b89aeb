"""Anthropic's API: Messages over the same run, and the library under Anthropic's shapes."""
