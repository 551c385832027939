"""What surrounds one run: checks, devices, signals, progress, searching checkpoints, processes, the last good state.

Private; `UnifiedTrainer` is its only caller. Start reading in `prepare.py`, where every refusal happens.
"""
