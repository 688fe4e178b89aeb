"""`python -m skilldeck_daemon` is `skilldeckd`."""

from skilldeck_daemon.cli import main

main()
