"""Who starts the processes of a run, and how a job and its result travel.

Private. Start reading in `processes.py`.
"""
