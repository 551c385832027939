"""The training logic shared by all backends: steps, evaluation and fit.

Called by the backends' loops only. Start reading in `fit.py`, then `step.py`.
"""
