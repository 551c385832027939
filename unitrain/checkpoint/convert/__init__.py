"""Converts other programs' checkpoints to the portable format, and back.

`convert_checkpoint` is public through `unitrain`; the rest is private. Start reading in `conversion.py`.
"""
