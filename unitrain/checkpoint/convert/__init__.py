"""Checkpoints of others made portable, and portable ones made theirs.

`convert_checkpoint` is public through `unitrain`; the rest is private. Start reading in `conversion.py`.
"""
