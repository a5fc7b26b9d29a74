from shoal.testing.conformance import Conformance


class TestConformance(Conformance):
    capability = "anomalies"
