"""The feature store conforms to the contract of a capability."""

from shoal.testing.conformance import Conformance


class TestConformance(Conformance):
    capability = "features"
