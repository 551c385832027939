"""A folder with a model and all that serves it, the same bytes for the same model.

Start reading in `make.py`, which writes one, and `bundle.py`, which is one that was read and verified.

- `contracts.py` is what SageMaker, Vertex AI, KServe and Docker each expect; `check.py` drives a bundle by it.
- `contents.py` writes the small files, `vendored.py` finds the part of unitrain that serves the model, `packages.py`
  the packages that it needs; `sbom.py` and `model_card.py` tell what is inside.
- `entry.py` is the program `serve` of each bundle: it needs nothing but Python until it has verified the files.
- `manifest.py`, `form.py` and `verify.py` compare the files with their checksums, `archive.py` writes and reads tars,
  `place.py` puts a finished folder in its place.
"""
