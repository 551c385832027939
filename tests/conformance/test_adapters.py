"""The shipped conformance suite, run on both backends."""

from unitrain.testing.conformance import AdapterConformance


class TestLightning(AdapterConformance):
    framework = "lightning"


class TestIgnite(AdapterConformance):
    framework = "ignite"
