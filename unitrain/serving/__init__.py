"""Answers requests with a trained model: `unitrain.InferenceEngine`, `unitrain.serve`, `unitrain serve`.

Start reading in `http/app.py`, which answers one request, and `server.py`, which runs until it is stopped.

- `engine.py` is for Python, without HTTP.
- `models/` loads files and runs them; ONNX without torch.
- `arrays.py` turns a client's data into arrays or refuses it; `batching.py` joins requests into one run of the model.
- `http/` reads requests, finds their route and limits them; `protocols/` has one protocol per file; `messages.py` is
  the request and the response that they share.
- `plan.py` starts processes, `process.py` is one of them, `workers.py` several that share a port, `child.py` the handle
  of a service that runs beside a script.
- `page/` is the page for people, `load/` the load test.
"""
