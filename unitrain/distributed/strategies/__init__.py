"""Distributed strategies: DDP and FSDP.

Private; users pass `DDP` or `FSDP`. Start reading in `ddp.py`.
"""
