"""Shared utilities: files and their ownership, random states, text in columns.

Private. Start reading in `files.py`, which every written file goes through.
"""
