"""Loads the file of a model and runs it on NumPy arrays.

Start reading in `loaded.py`. `onnx_file.py` needs no torch; `torch_file.py` runs the other formats of an export.
"""
