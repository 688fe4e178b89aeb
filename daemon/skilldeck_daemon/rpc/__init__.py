"""The control socket: the same services for the terminal, as gRPC."""
