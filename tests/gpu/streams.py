"""Streams of the pretended device: what a stream copies has no values until another stream has waited for it.

Strict: memory that a stream allocated is found out if it is freed while another stream, which uses it, was never told.
"""

from __future__ import annotations

import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.gpu import pretended

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch


class Stream:
    """A queue of copies that have not arrived."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device
        self.pending: list[tuple[torch.Tensor, torch.Tensor]] = []

    def wait_stream(self, other: Stream) -> None:
        """Let what ``other`` copied arrive."""
        for where, values in other.pending:
            where.copy_(values)
        other.pending.clear()


class Streams:
    """Stands for ``torch.cuda``, with a stream that computes and those that are made."""

    Stream = Stream

    def __init__(self) -> None:
        self.computing = self.current = Stream()
        self.copies = 0
        self.early: list[str] = []

    def current_stream(self, _device: torch.device) -> Stream:
        """Return the stream that runs what is launched now."""
        return self.current

    @contextmanager
    def stream(self, chosen: Stream) -> Iterator[None]:
        """Launch on ``chosen``."""
        before, self.current = self.current, chosen
        try:
            with pretended.watched(self):
                yield
        finally:
            self.current = before

    def allocated(self, tensor: pretended.Pretended) -> None:
        """Watch over the memory that the current stream allocates."""
        tensor.known = known = set()
        weakref.finalize(tensor, self._freed, known, tuple(tensor.shape))

    def copied(self, tensor: pretended.Pretended) -> None:
        """Queue a copy: until it arrives, its memory has bytes of something else."""
        self.copies += 1
        self.current.pending.append((tensor.raw, tensor.raw.clone()))
        tensor.raw.fill_(1)

    def _freed(self, known: set[int], shape: tuple[int, ...]) -> None:
        if id(self.computing) not in known:
            self.early.append(f"a tensor of {shape} was freed, and the stream that computes was not recorded")
