"""Endurance: many concurrent runs against a real daemon process for minutes or hours. See `__main__.py`."""
