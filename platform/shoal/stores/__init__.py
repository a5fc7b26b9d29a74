"""Tenant-bound stores: Redis (`online`), vectors and the lake."""
