"""What commands find installed, in layers (`layers.py`): the base, and environments of skills over it."""
