"""The whole grid: from each backend to each, at each kind of instant, in each precision, without and with workers."""

from __future__ import annotations

import importlib.util
from functools import cache, partial
from pathlib import Path

import pytest

from unitrain.testing import cases
from unitrain.testing.models import loader
from unitrain.testing.trace import record

found = importlib.util.spec_from_file_location("resume", Path(__file__).with_name("test_resume.py"))
resume = importlib.util.module_from_spec(found)
found.loader.exec_module(resume)

POSITIONS = ("epoch boundary", "mid-epoch", "mid-accumulation")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
WORKERS = (0, 2)
QUICK = {("mid-accumulation", "bf16-mixed", 0), ("mid-accumulation", "16-mixed", 0), ("mid-epoch", "32-true", 2)}
"""What `make test` runs too; with what test_resume.py has, each value of each axis is in it."""

CELLS = [
    pytest.param(*cell, marks=() if cell in QUICK else pytest.mark.slow)
    for cell in (
        (position, precision, workers) for position in POSITIONS for precision in PRECISIONS for workers in WORKERS
    )
]


def cell_case(position, precision, workers):
    """Return the case of a cell: dropout, shuffling and an uneven last batch."""
    case = resume.case_of(position, spec=partial(cases.spec, "mlp", "adamw", "step"))
    train = partial(loader, workers=workers)
    return resume.replace(case, train=train, options={**case.options, "precision": precision})


@cache
def uninterrupted(*cell):
    return record("reference", cell_case(*cell))


@pytest.mark.parametrize("writer", resume.FRAMEWORKS)
@pytest.mark.parametrize(("position", "precision", "workers"), CELLS)
def test_every_cell_goes_on_exactly(position, precision, workers, writer, tmp_path):
    cell = position, precision, workers
    case = cell_case(*cell)
    resume.written(writer, case, resume.POSITIONS[position], tmp_path / "run.ckpt")
    for reader in resume.FRAMEWORKS:
        resume.assert_goes_on(uninterrupted(*cell), resume.resumed(reader, case, tmp_path / "run.ckpt"))
