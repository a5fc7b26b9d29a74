"""What a capability is, and what it is given. This package imports nothing else of
Shoal's.
"""
