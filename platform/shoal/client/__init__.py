"""Clients of the platform, over HTTP and through a Ray cluster."""
