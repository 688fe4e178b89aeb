"""Screens above a mode, answered once (`dialog.py`): questions, choices, and skills, runs and files looked into."""
