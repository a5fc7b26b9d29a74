"""The router: authentication, limits, roles and experiments of each request."""
