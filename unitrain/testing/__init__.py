"""Verifies that a backend behaves identically: the reference loop, recorded traces, the conformance suite.

It ships in the wheel, so that a third party can run it on its own backend. Start reading in `conformance.py`;
`reference.py` is the reference loop.
"""
