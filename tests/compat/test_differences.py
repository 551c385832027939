"""Each difference between releases is dated and tested."""

import inspect
import pkgutil
from importlib import import_module
from pathlib import Path

import pytest

import unitrain.compat
from unitrain import SpecError
from unitrain.compat.differences import Difference
from unitrain.compat.torchmetrics import refuse_old_options


def differences():
    for module in pkgutil.iter_modules(unitrain.compat.__path__):
        name = f"unitrain.compat.{module.name}"
        for function in vars(import_module(name)).values():
            if inspect.isfunction(function) and hasattr(function, "__difference__") and function.__module__ == name:
                yield pytest.param(function, id=f"{module.name}.{function.__name__}")


TESTS = "\n".join(path.read_text() for path in Path(__file__).parents[1].rglob("test_*.py"))


@pytest.mark.parametrize("function", list(differences()))
def test_each_difference_is_tested_and_tells_where_upstream_tells_of_it(function):
    assert function.__name__ in TESTS
    assert function.__difference__.link.startswith("https://")
    assert function.__doc__


def test_what_could_be_dropped_before_it_came_is_refused():
    with pytest.raises(ValueError, match="cannot be dropped"):
        Difference("torch", since="2.6", drop="2.5", link="https://")


def test_an_option_that_metrics_take_no_more_is_refused_with_what_became_of_it():
    refuse_old_options("f1", ["num_classes", "average"])
    with pytest.raises(SpecError, match="multidim_average="):
        refuse_old_options("f1", ["num_classes", "mdmc_average"])
