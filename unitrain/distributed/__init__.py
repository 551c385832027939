"""Multi-process training: ranks, collectives, launching and failure handling.

`DDP` and `FSDP` are public through `unitrain`, `RayTrainer` through `ray`; the rest is private. Start reading in
`collectives.py`, then `launch/processes.py` (starts processes), `health/watchdog.py` (notices failures) and
`strategies/ddp.py`.
"""
