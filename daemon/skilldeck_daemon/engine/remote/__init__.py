"""Models that another server runs."""
