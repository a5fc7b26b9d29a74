"""One request: who is calling, for which tenant, within which limits and rights, in
which experiments.
"""
