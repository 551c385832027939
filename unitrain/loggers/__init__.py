"""Trackers, one per file; any object with the interface of Lightning's Logger is one."""
