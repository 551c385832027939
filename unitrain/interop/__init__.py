"""A framework's own code and callbacks, run as they are; `unitrain run`.

`from_engine` and `from_step` are public through `unitrain`; the rest is private. Start reading in `foreign_code.py`.
"""
