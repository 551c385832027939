"""Optimizers, learning-rate schedules, warm-up and parameter schedules.

Private; a user gives `LRSchedule`. Start reading in `optimizers.py`.
"""
