"""The seam between unitrain and a backend: the protocols, how backends are found, and what each supports.

For authors of backends. Start reading in `protocol.py`; `docs/backends.md` shows a whole backend. `foreign.py` is the
interface for running a framework's own code on any backend.
"""
