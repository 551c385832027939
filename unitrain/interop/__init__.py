"""Runs unchanged Lightning and Ignite code and callbacks; implements `unitrain run`.

`from_engine` and `from_step` are public through `unitrain`; the rest is private. Start reading in `foreign_code.py`.
"""
