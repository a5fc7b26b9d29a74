"""The contract between the platform and its plugins.

This package imports no other package of Shoal.
"""
