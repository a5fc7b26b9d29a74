"""The platform's own capability, a resource a module."""
