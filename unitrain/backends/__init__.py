"""The seam between unitrain and a backend: the protocols, how backends are found, and what each supports.

For authors of backends. Start reading in `protocol.py`.
"""
