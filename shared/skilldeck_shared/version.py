"""The one version of the distribution; the daemon and its clients compare it in their handshake."""

__version__ = "0.1.0"
