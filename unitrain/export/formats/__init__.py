"""One file a format, and the table of them.

Private. Start reading in `table.py`; a format is a module with `FORMAT` and a row in it.
"""
