"""Clients of the platform, over HTTP and the Ray client alike."""
