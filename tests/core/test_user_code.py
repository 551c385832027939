"""The user's line in a traceback."""

import json

import pytest
import torch

from unitrain.utilities.user_code import user_line


def here(error):
    return f"{__file__}:{error.__traceback__.tb_lineno}"


def test_it_is_the_last_one_that_no_library_has():
    with pytest.raises(RuntimeError) as caught:
        torch.ones(2) @ torch.ones(3)
    assert user_line(caught.value) == here(caught.value)
    with pytest.raises(ValueError, match="Expecting") as caught:
        json.loads("{")
    assert user_line(caught.value) == here(caught.value)


def test_an_error_without_a_traceback_has_none():
    assert user_line(ValueError("x")) is None


def test_a_line_of_a_library_is_better_than_none():
    with pytest.raises(ValueError, match="Expecting") as caught:
        json.loads("{")
    error = caught.value.with_traceback(caught.value.__traceback__.tb_next)
    assert "json" in user_line(error)
