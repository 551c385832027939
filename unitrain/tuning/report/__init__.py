"""Reports of a study.

The picture is in `plots.py`, files of `--export` in `exports.py`, the page for a browser in `page.py` and `charts.py`.
"""
