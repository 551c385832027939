"""``unitrain doctor``: what is installed, how it is supported, and how to fix the rest.

Private; users run `unitrain doctor`. Start reading in `examination.py`.
"""
