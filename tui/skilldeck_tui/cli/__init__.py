"""The commands of `skilldeck`."""
