"""Who runs the trials (`worker.py`), and where: in this process, in others of this machine, on Ray (`executors.py`)."""
