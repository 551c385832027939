"""How the end of one process becomes the end of all: heartbeats, the watchdog, SIGTERM, failure reports.

Private. Start reading in `watchdog.py`.
"""
