"""Distributed strategies: DDP and FSDP.

Private; a user gives `DDP` or `FSDP`. Start reading in `ddp.py`.
"""
