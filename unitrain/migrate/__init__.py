"""The codemod engine; each adapter's ``fixers`` define the rules for its framework.

Private; users run `unitrain migrate`. Start reading in `command.py`, then `findings.py` (rules and fixers) and
`rewriting.py`.
"""
