"""What surrounds every mode: the tabs, the banner, the status line, the keys."""
