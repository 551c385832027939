"""Events and filters, the hub that calls handlers, the run context and the result.

Imports nothing from higher layers. `Event`, `RunContext`, `RunState` and `FitResult` are public through `unitrain`; the
rest is private. Start reading in `events.py`, then `hub.py`.
"""
