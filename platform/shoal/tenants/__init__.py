"""The tenant directory: who is a tenant, with which keys, boards and limits; created,
snapshotted, erased, audited.
"""
