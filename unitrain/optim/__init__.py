"""Optimizers, learning-rate schedules, warm-up and parameter schedules.

Private; users pass `LRSchedule`. Start reading in `optimizers.py`.
"""
