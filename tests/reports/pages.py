"""What the tests of reports share: small fits, what a page would load, and texts that would do harm unescaped."""

from __future__ import annotations

import re
from functools import partial

import torch
from torch import nn

from unitrain import TrainSpec, UnifiedTrainer

EVIL = "</style></pre><script>window.hit = 1</script><img src=x onerror='window.hit = 2'>\"'&lt;\u202e\x1b[31m"
_TAGS = re.compile(r"<[^>]*>")
_ADDRESS = re.compile(
    r"""\s(?:src|href|action|data|srcset|poster|style)="(?!#|data:image/|--left:[\d.]+em"|width:[\d.]+%")[^"]*"""
)
_IN_STYLE = re.compile(r"url\(|@import|expression|image-set")
_RUNS = re.compile(r"<\s*(?:script|iframe|object|embed|link|base|form)|\son\w+=", re.IGNORECASE)


def batches(count):
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(8, 4, generator=generator), torch.randn(8, 1, generator=generator)) for _ in range(count)]


def spec(**changes):
    torch.manual_seed(0)
    fields = {"model": nn.Linear(4, 1), "loss": nn.MSELoss(), "optimizer": partial(torch.optim.SGD, lr=0.1)}
    return TrainSpec(**{**fields, **changes})


def fitted(framework="reference", changes=(), **options):
    trainer = UnifiedTrainer(framework, **{"max_epochs": 2, "enable_progress_bar": False, **options})
    return trainer.fit(spec(**dict(changes)), batches(3), batches(2))


def does(html):
    """Return what a page would load or run: in its tags, their attributes and its style. It must be empty."""
    tags = " ".join(_TAGS.findall(html))
    style = "".join(re.findall(r"<style>(.*?)</style>", html, re.DOTALL))
    bare = re.sub(r'"[^"]*"', '""', tags)
    return [*_RUNS.findall(bare), *_ADDRESS.findall(tags), *_IN_STYLE.findall(style)]


def seen(html):
    """Return the texts of a page."""
    return _TAGS.sub(" ", re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL))


def sections(html):
    """Return the headings of a page."""
    return re.findall(r"<h2>(.*?)</h2>", html)
