"""Two or more trainings side by side, bit by bit: ``unitrain.compare`` and ``unitrain compare``.

Start reading in `compare.py`. Each side runs in a process of its own (`launch.py`, `side.py`) and writes a digest of
what happens in each step (`record.py`). Hooks see it: `spec_observer.py`, `native_observer.py` for a framework's own
code, `loop_observer.py` for a hand-written loop. Records that differ are run again up to that step, with the tensors
kept; `diagnosis.py` finds the first one that differs, and `bits.py` says by how much. `checkpoints.py` compares two
files. `comparison.py` is the result; `told.py` and `page.py` show it.
"""
