"""What proves that a backend means the same: the bare loop, the tape and the conformance suite.

It ships in the wheel, so that a third party can run it on a backend of its own.
"""
