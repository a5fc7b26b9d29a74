"""The event log: what happened, in order, per tenant; appended, followed, replayed and
archived.
"""
