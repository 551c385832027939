"""A study for people: the picture (`plots.py`), the files of `--export` (`exports.py`) and its HTML page."""
