"""The tables (`schema.py`), and a repository for each kind of object over them (`documents.py` is what all share)."""
