"""The one client of the daemon's control socket: calls, types, connecting, uploading."""
