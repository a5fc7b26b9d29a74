"""The command `shoal`, a module per group of commands."""
