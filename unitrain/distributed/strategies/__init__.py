"""How one model is trained by several processes: DDP, FSDP, and what they need of a model.

Private; a user gives `DDP` or `FSDP`. Start reading in `ddp.py`.
"""
