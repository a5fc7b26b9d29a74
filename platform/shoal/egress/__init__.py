"""Outgoing connections: where the platform may connect to, and clients held to it."""
