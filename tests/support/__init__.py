"""Real parts that tests speak to: servers and engines which play a script instead of running weights."""
