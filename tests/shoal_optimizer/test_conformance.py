"""The optimizer satisfies the contract of capabilities."""

from shoal.testing.conformance import Conformance


class TestConformance(Conformance):
    capability = "optimizer"
