"""One protocol a file: from a request to the rows of a model, and from its outputs to a response.

- `plain.py`: `{"data": ...}` -> `{"prediction": ...}`; `instances` -> `predictions`, as in TensorFlow Serving.
- `open_inference.py`: the Open Inference Protocol v2 with its binary extension, of Triton and KServe.
- `npy.py`: one array as NumPy writes it.
"""
