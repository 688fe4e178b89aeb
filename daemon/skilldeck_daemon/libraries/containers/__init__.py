"""Containers as clients see them (`environments.py`): records, expiry, files inside, mounted skills, secrets."""
