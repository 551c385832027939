"""The export formats, one per file, and their table.

Private. Start reading in `table.py`; a format is a module with `FORMAT` and a row in it.
"""
