"""The generalized assignment problem: every task to one person, at the least cost."""
