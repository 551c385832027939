"""Trackers, one per file; any object with the interface of Lightning's Logger is one.

The trackers are public through `unitrain`; the rest is private. Start reading in `logger.py` (the protocol), then
`dispatch.py`, which sends all of them the same rows.
"""
