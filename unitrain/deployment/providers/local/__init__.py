"""Runs a bundle on this machine as a supervised process.

- `provider.py` is the protocol, `plan.py` makes the steps, `control.py` is what a script does to the supervisor.
- `supervisor.py` is the process that outlives the script, `service.py` one run of a bundle.
- `files.py` is the folder by which they know of each other, `locks.py` who lives, `token.py` who may ask.

The supervisor holds the socket. An update starts the new service beside the old one on the same socket, and ends the
old one once the new one is ready; if the new one fails, the old one stays.
"""
