"""Unchanged native code and callbacks, and `unitrain run`.

`from_engine` and `from_step` are public through `unitrain`; the rest is private. Start reading in `foreign_code.py`.
"""
