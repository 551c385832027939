"""Searches before a fit: the learning rate and the batch size.

`LRFinder` and `BatchSizeFinder` are public through `unitrain`. Start reading in `lr_finder.py`.
"""
