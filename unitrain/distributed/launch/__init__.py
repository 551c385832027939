"""Starts the processes of a run, and transfers jobs and results.

Private. Start reading in `processes.py`.
"""
