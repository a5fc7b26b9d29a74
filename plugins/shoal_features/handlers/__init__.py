"""The handlers of the HTTP operations, a module per noun."""
