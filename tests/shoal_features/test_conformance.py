"""The feature store holds to what any capability must."""

from shoal.testing.conformance import Conformance


class TestConformance(Conformance):
    capability = "features"
