"""Watched skill folders: every save becomes a version."""
