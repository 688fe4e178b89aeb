"""The models on this machine: what lies at a path (`source.py`), what was downloaded, what other programs keep."""
