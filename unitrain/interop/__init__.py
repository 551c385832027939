"""A framework's own code and callbacks, run unchanged; `unitrain run`.

`from_engine` and `from_step` are public through `unitrain`; the rest is private. Start reading in `foreign_code.py`.
"""
