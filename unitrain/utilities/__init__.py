"""What every room uses and what knows none of them: files and who owns them, random states, text in columns.

Private. Start reading in `files.py`, which every written file goes through.
"""
