"""What a handler sees of a run: events and their filters, the hub that calls handlers, the context, the result.

Names nothing above it. `Event`, `RunContext`, `RunState` and `FitResult` are public through `unitrain`;
the rest is private. Start reading in `events.py`, then `hub.py`.
"""
