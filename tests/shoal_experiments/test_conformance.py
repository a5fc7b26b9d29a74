"""Experiments meet the requirements of every capability."""

from shoal.testing.conformance import Conformance


class TestConformance(Conformance):
    capability = "experiments"
