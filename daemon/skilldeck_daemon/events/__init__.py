"""The one ordered log of a run's events, and the writer of its output items."""
