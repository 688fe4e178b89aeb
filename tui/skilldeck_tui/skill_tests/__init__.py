"""Tests of a skill: the suite of a folder, and running it beside the TUI."""
