"""Trackers: where the values of a run go. One tracker a file; any object in the shape of Lightning's Logger is one."""
