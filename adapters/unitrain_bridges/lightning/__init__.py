"""A LightningModule on Ignite's engine and on the reference loop. Start reading in `sessions.py`."""
