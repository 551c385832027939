"""What is observed of a step, in words: kinds of entries in a record, and the phase that each belongs to."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

INITIAL_PARAMETERS: Final = "initial parameters"
INITIAL_BUFFERS: Final = "initial buffers"
RANDOM_STATE: Final = "random state"
BATCH: Final = "batch"
CALL_STATE: Final = "random state at the model's call"
INPUT: Final = "input"
OUTPUT: Final = "output"
LOSS: Final = "loss"
GRADIENT: Final = "gradient"
PARAMETERS: Final = "parameters"
BUFFERS: Final = "buffers"
OPTIMIZER_STATE: Final = "optimizer state"
RATES: Final = "optimizer options"
SCHEDULES: Final = "schedule state"
SCALER: Final = "gradient scaler"
LOGGED: Final = "logged values"
METRICS: Final = "metrics"
EVENTS: Final = "events"
OUTCOME: Final = "outcome"
FINAL_PARAMETERS: Final = "final parameters"
FINAL_BUFFERS: Final = "final buffers"

PHASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        INITIAL_PARAMETERS: "initial weights",
        INITIAL_BUFFERS: "initial weights",
        RANDOM_STATE: "random state",
        BATCH: "batch",
        CALL_STATE: "random state",
        INPUT: "forward",
        OUTPUT: "forward",
        LOSS: "forward",
        GRADIENT: "gradient",
        PARAMETERS: "after step",
        BUFFERS: "after step",
        OPTIMIZER_STATE: "after step",
        RATES: "after step",
        SCHEDULES: "after step",
        SCALER: "after step",
        LOGGED: "logs",
        METRICS: "metrics",
        EVENTS: "events",
        OUTCOME: "end",
        FINAL_PARAMETERS: "end",
        FINAL_BUFFERS: "end",
    }
)
"""The phase of each kind."""

LENGTH: Final = "length"
ORDER: Final = "order"
"""Phases of differences that are in no tensor: one side ends first, or does something else next."""

OF_A_LOOP: Final = frozenset(
    {INITIAL_PARAMETERS, CALL_STATE, INPUT, OUTPUT, GRADIENT, PARAMETERS, BUFFERS, OPTIMIZER_STATE}
)
"""What is seen of a hand-written loop by itself; it may also yield its loss and its batch."""

NOT_IN_A_LOOP: Final = frozenset({CALL_STATE})
"""What explains a difference from a loop, and is none by itself: a loop may draw its numbers in an order of its own."""
