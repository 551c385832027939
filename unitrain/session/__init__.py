"""Everything around a run: checks, devices, signals, progress, checkpoint lookup, processes, the last good state.

Private; `UnifiedTrainer` is its only caller. Start reading in `prepare.py`, which checks a run and creates its job.
"""
