"""Callbacks: several handlers and a state in one object. One callback a file."""

from unitrain.callbacks.callback import Callback, Decider, register
from unitrain.callbacks.progress import ProgressBar

__all__ = ["Callback", "Decider", "ProgressBar", "register"]
