"""The older text completion: no run and no tools."""
