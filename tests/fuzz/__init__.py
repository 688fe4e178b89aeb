"""Generated hostile inputs, sent to a daemon that has to go on: `python -m fuzz`, `make fuzz`."""
