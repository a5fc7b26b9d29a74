"""Generalised assignment: every task to exactly one person, within everyone's capacity,
at the least cost.
"""

from .problem import Assignment, Problem, Status
from .solve import solve_assignment

__all__ = ["Assignment", "Problem", "Status", "solve_assignment"]
