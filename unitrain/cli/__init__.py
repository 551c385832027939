"""The command line: ``unitrain COMMAND ...``.

Private; users run `unitrain --help`. Start reading in `commands.py`: the table of commands. What belongs to no other
room lives here: `doctor/`.
"""

from unitrain.cli.commands import main

__all__ = ["main"]
