"""Metrics: means, wrappers of torchmetrics and Ignite metrics, values per class.

`metric` and `per_class` are public through `unitrain`; the rest is private. Start reading in `metric.py`.
"""
