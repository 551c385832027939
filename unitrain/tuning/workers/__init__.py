"""Workers (`worker.py`) run the trials: in this process, in others on this machine, or on Ray (`executors.py`)."""
