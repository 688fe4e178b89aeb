"""Responses over HTTP and over a WebSocket."""
