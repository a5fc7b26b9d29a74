"""The platform's own capability, at `/platform`: one module per resource."""
