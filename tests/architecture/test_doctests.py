"""Each public name shows an example, and each example runs."""

import doctest
import importlib
import inspect
import pkgutil
from functools import partial

import pytest
import torch

import unitrain

ERRORS = {name for name in unitrain.__all__ if name.endswith("Error")}
PUBLIC = sorted(set(unitrain.__all__) - ERRORS - {"__version__"})
MODULES = sorted(
    one.name for one in pkgutil.walk_packages(unitrain.__path__, "unitrain.") if not one.name.endswith("__main__")
)
WITH_EXAMPLES = [name for name in MODULES if ">>> " in inspect.getsource(importlib.import_module(name))]


@pytest.mark.parametrize("name", PUBLIC)
def test_each_public_name_shows_an_example(name):
    assert ">>> " in (inspect.getdoc(getattr(unitrain, name)) or "")


def known() -> dict:
    """Return what an example may use without a word: the public names, torch, and a small spec with its batches."""
    torch.manual_seed(0)
    spec = unitrain.TrainSpec(
        model=torch.nn.Linear(4, 1), loss=torch.nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=0.01)
    )
    batches = [(torch.randn(8, 4), torch.randn(8, 1)) for _ in range(3)]
    return {name: getattr(unitrain, name) for name in PUBLIC} | {
        "torch": torch,
        "partial": partial,
        "spec": spec,
        "batches": batches,
    }


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed, tried = doctest.testmod(importlib.import_module(name), extraglobs=known(), optionflags=flags)
    assert tried
    assert not failed


def test_a_wrong_example_is_noticed():
    example = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, None)
    assert doctest.DocTestRunner(verbose=False).run(example, out=lambda _: None).failed
