"""Teams for tasks under hard and soft constraints, proved optimal and explained."""

from .assignment import Assignment, solve_assignment

__all__ = ["Assignment", "solve_assignment"]
