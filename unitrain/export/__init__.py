"""Exports a trained model to a file that runs without unitrain, and verifies it against the model.

Private; users call `trainer.export` or `unitrain export`. Start reading in `pipeline.py`; `formats/` has one format per
file.
"""
