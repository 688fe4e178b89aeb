"""Models: loaded, and spoken to in token ids (`Engine`) or in messages (`ChatModel`); both are in `base.py`."""
