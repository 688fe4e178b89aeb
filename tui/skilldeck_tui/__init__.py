"""The client: the terminal UI, and `skilldeck` on the command line. It knows the daemon by its control socket only."""
