"""Training of the bundled model `skilldeck-tiny`: data, tokenizer, wired start, loop, export, evaluation.

This package is not part of the wheel. `python -m training --help` (from `daemon/`) lists the commands;
README.md beside this file documents them.
"""
