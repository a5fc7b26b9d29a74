"""One machine: the supervisor, the embedded servers, the demo and its sample
workspaces.
"""
