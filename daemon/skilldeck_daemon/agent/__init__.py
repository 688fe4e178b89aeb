"""The run: the loop between the model and its tools, from a request that was read to its terminal event."""
