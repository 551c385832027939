"""The meaning of training: one step, one evaluation and one fit, written once for every backend.

Called by the backends' loops only. Start reading in `fit.py`, then `step.py`.
"""
