"""A whole store at once: backups and their restoring, and the check of everything it holds."""
