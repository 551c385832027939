"""Failure handling across processes: heartbeats, the watchdog, SIGTERM, failure reports.

Private. Start reading in `watchdog.py`.
"""
