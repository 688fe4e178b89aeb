"""The way out of a container: a proxy in the daemon, letting through what it may reach and adding secrets."""
