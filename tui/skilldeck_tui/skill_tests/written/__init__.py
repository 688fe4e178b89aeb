"""Tests as people and other programs write them: read from a skill's folder, and written in either form."""
