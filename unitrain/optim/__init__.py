"""Optimizers, learning-rate schedules, warm-up and parameter schedules: what is built, and when a rate changes.

Private; a user gives `LRSchedule`. Start reading in `optimizers.py`.
"""
