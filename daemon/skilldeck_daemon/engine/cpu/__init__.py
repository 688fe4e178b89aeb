"""The CPU engine: a model folder on torch, several requests at once."""
