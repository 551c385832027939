"""Ignite engines on Lightning's Trainer and on the reference loop. Start reading in `session.py`."""
