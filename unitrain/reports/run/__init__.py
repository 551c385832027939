"""The record of a run and its page.

`record.py` writes and reads `run.json`, `forms.py` checks what is read, `surroundings.py` finds versions, hardware and
the git commit.
"""
