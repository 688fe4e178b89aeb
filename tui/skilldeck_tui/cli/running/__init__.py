"""`skilldeck run`, with what it allows a run's commands, shows while they wait, and brings back."""
