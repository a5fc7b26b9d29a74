"""One machine: the supervisor, the embedded servers and the sample workspaces."""
