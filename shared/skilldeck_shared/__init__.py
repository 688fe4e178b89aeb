"""What the daemon and its clients share. It imports neither."""
