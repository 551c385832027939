"""Callbacks: several handlers and a state in one object. One callback a file."""

from unitrain.callbacks.callback import Callback, register
from unitrain.callbacks.progress import ProgressBar

__all__ = ["Callback", "ProgressBar", "register"]
