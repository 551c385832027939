"""TrainerConfig: a value gives a config that means it, or a ConfigError that names it."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from unitrain import ConfigError, TrainerConfig, UnifiedTrainer

FIELDS = sorted(field.name for field in fields(TrainerConfig))
anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-1, 0, 1, 2, 10**400, -(10**400), 2**64]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        ["auto", "norm", "value", "warn", "-1", "3", "bf16", "16-mixed", "00:00:01:00", "99999999999:0:0:0"]
    ),
    st.binary(max_size=3),
    st.lists(st.integers() | st.text(max_size=2), max_size=3),
    st.dictionaries(
        st.text(max_size=4) | st.integers() | st.sampled_from(["days", "hours"]),
        st.floats() | st.integers(),
        max_size=2,
    ),
    st.dictionaries(st.sampled_from(["lightning", "ignite", "no"]), st.dictionaries(st.text(max_size=3), st.none())),
    st.timedeltas(),
    st.sampled_from([object(), object, Path("runs"), 1j, {1}, "9" * 5000]),
)


MEANS = {
    "max_time": lambda given: [None] if given is None else DURATIONS,
    "devices": lambda given: [
        given,
        list(given) if isinstance(given, (tuple, list)) else int(given) if given != "auto" else None,
    ],
    "precision": lambda given: [f"{given:.0f}-true", "16-mixed"] if isinstance(given, float) else PRECISIONS,
    "gradient_clip_val": lambda given: [None if given is None else float(given) or None],
    "callbacks": lambda given: [tuple(given)],
    "loggers": lambda given: [tuple(given)],
    "default_root_dir": lambda given: [Path(given)],
    "native": lambda given: [given or {}],
}
"""What a field becomes that is not kept as it was given; the tables below hold each form of these."""


class _Duration:
    """Equals any positive duration."""

    def __eq__(self, other):
        return isinstance(other, timedelta) and other > timedelta(0)

    __hash__ = None


DURATIONS = [_Duration()]
PRECISIONS = ["32-true", "64-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed"]


def refusal(make):
    """Return what ``make`` returned, and None, or else None and the ConfigError; any other error comes out."""
    try:
        return make(), None
    except ConfigError as error:
        return None, error


@given(st.sampled_from(FIELDS), anything)
@example("max_time", "99999999999999:00:00:00")
@example("max_time", {"days": 1e300})
@example("max_time", {"days": float("nan")})
@example("max_time", {1: 2})
@example("max_time", {"fortnights": 1})
@example("gradient_clip_val", 10**400)
@example("devices", "9" * 5000)
@example("devices", [True])
@example("limit_val_batches", float("nan"))
@example("limit_train_batches", True)
@example("max_epochs", True)
@example("precision", [])
@example("enable_progress_bar", 1)
@example("seed", True)
@example("native", {1: {}})
def test_any_value_is_meant_or_refused_by_name(name, value):
    config, error = refusal(lambda: TrainerConfig(**{name: value}))
    if config is None:
        assert name in str(error)
        assert repr(value) in str(error)
        return
    kept = getattr(config, name)
    assert any(kept == one for one in MEANS.get(name, lambda given: [given])(value))
    assert isinstance(kept, bool) == isinstance(value, bool)  # 1 is not True


@given(st.dictionaries(st.sampled_from(FIELDS), anything, min_size=2, max_size=6))
def test_any_combination_is_a_config_or_a_config_error(options):
    _, error = refusal(lambda: TrainerConfig(**options).resolved())
    assert error is None or any(name in str(error) for name in options)


WRONG = {
    "max_epochs": (0, -2, 1.0, "3", True),
    "min_epochs": (-1, 1.5, True),
    "max_steps": (0, -2, None, 5.0),
    "min_steps": (-1, 2.0),
    "max_time": (0, 60, "1h", "00:00:00:00", timedelta(0), timedelta(-1), {"minute": 1}, {}),
    "accelerator": ("tpu", None, "GPU", 0),
    "devices": (0, -2, "0", "two", [], [-1], [0.5], None, True, 1.0),
    "num_nodes": (0, -1, "1", None),
    "strategy": ("", None, 3),
    "precision": ("8", "fp16", None, 31, 32.5, []),
    "accumulate_grad_batches": (0, -1, 1.0, {0: 2}),
    "gradient_clip_val": (-1, float("nan"), float("inf"), "1", True),
    "gradient_clip_algorithm": ("l2", None),
    "val_check_interval": (0, -1, 0.0, 1.5, float("nan"), None, True),
    "check_val_every_n_epoch": (0, -1, 1.0),
    "limit_train_batches": (-1, -0.5, 1.5, float("nan"), None, "1", True),
    "limit_val_batches": (-1, 2.0),
    "limit_test_batches": (-1, 2.0),
    "limit_predict_batches": (-1, 2.0),
    "num_sanity_val_steps": (-2, 1.0, True, "2"),
    "reload_dataloaders_every_n_epochs": (-1, 1.0, True, None),
    "fast_dev_run": (-1, None, 1.0, "yes"),
    "overfit_batches": (-1, 1.5, True),
    "prefetch_to_device": (1, None, "True"),
    "sync_batchnorm": (1, None, "True"),
    "compile": (1, None),
    "deterministic": ("error", 1, None),
    "benchmark": (0, "True"),
    "detect_anomaly": (1, None),
    "seed": (-1, 1.0, "0", 2**64),
    "callbacks": ("x", 3, None),
    "loggers": (True, "csv"),
    "log_every_n_steps": (-1, 1.0, None),
    "enable_progress_bar": (1, None),
    "default_root_dir": (3, None, b"x"),
    "profiler": ("advanced", 3, True, []),
    "native": (3, [], {"lightning": 3}, "lightning"),
}
WRONG_CASES = [(name, value) for name, values in WRONG.items() for value in values]


def test_every_field_has_wrong_values():
    assert sorted(WRONG) == FIELDS


@pytest.mark.parametrize(
    ("name", "value"),
    WRONG_CASES,
    ids=[f"{name}={value!r:.40} ({type(value).__name__})" for name, value in WRONG_CASES],
)
def test_wrong_value_is_refused_with_what_is_accepted(name, value):
    with pytest.raises(ConfigError) as caught:
        TrainerConfig(**{name: value})
    assert f"{name} must be" in str(caught.value)
    assert f"got {value!r}" in str(caught.value)


@pytest.mark.parametrize(("name", "value"), [(name, values[0]) for name, values in WRONG.items()], ids=list(WRONG))
def test_refusal_ends_with_the_mend(name, value):
    """``unitrain.errors``: the last line of each message is ``Hint:`` and the fix."""
    with pytest.raises(ConfigError) as caught:
        TrainerConfig(**{name: value})
    assert str(caught.value).splitlines()[-1].startswith("Hint: ")


@pytest.mark.parametrize(
    "make", [TrainerConfig, lambda **options: UnifiedTrainer("reference", **options)], ids=["config", "trainer"]
)
@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("max_epoch", "max_epochs"),
        ("gradient_clip_value", "gradient_clip_val"),
        ("accumulate_grad_batch", "accumulate_grad_batches"),
        ("limit_batches", "limit_val_batches"),
    ],
)
def test_unknown_argument_is_refused_with_the_nearest(make, name, nearest):
    with pytest.raises(ConfigError, match=rf"unknown argument '{name}'[\s\S]*did you mean '{nearest}'"):
        make(**{name: 1})


def test_unknown_argument_far_from_all_lists_them():
    with pytest.raises(ConfigError, match=r"accepted are accelerator, .*val_check_interval"):
        TrainerConfig(zzzzzz=1)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        *((name, name) for name in ("32-true", "64-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed")),
        (32, "32-true"),
        ("32", "32-true"),
        (64, "64-true"),
        ("64", "64-true"),
        (16, "16-mixed"),
        ("16", "16-mixed"),
        ("bf16", "bf16-mixed"),
    ],
    ids=repr,
)
def test_precision_has_one_name(given, name):
    assert TrainerConfig(precision=given).precision == name


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("00:00:00:01", 1),
        ("1:2:3:4", 86400 + 7200 + 180 + 4),
        ("00:00:90:00", 5400),
        (timedelta(milliseconds=1), 0.001),
        ({"minutes": 2}, 120),
        ({"hours": 1, "seconds": 0.5}, 3600.5),
    ],
    ids=str,
)
def test_max_time_of_any_form_is_a_duration(given, seconds):
    assert TrainerConfig(max_time=given).max_time == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("options", "epochs"),
    [
        ({}, 1000),
        ({"max_epochs": 3}, 3),
        ({"max_epochs": -1}, None),
        ({"max_steps": 5}, None),
        ({"max_time": "00:00:00:01"}, None),
        ({"max_steps": 5, "max_epochs": 2}, 2),
        ({"fast_dev_run": True, "max_epochs": 9}, 1),
    ],
    ids=str,
)
def test_epochs_follow_from_what_is_limited(options, epochs):
    assert TrainerConfig(**options).resolved().epochs == epochs


@pytest.mark.parametrize(("given", "count"), [(True, 1), (1, 1), (3, 3)])
def test_fast_dev_run_stands_for_limits_and_one_epoch(given, count):
    long = {"max_epochs": 9, "min_epochs": 2, "max_steps": 100, "min_steps": 50, "max_time": "01:00:00:00"}
    config = TrainerConfig(fast_dev_run=given, check_val_every_n_epoch=5, val_check_interval=0.5, **long).resolved()
    assert [config.limit(stage) for stage in ("train", "val", "test", "predict")] == [count] * 4
    assert (config.max_epochs, config.max_steps, config.min_epochs, config.min_steps) == (1, -1, None, None)
    assert (config.max_time, config.check_val_every_n_epoch, config.val_check_interval) == (None, 1, 1.0)


@pytest.mark.parametrize("given", [False, 0])
def test_fast_dev_run_switched_off_changes_nothing(given):
    config = TrainerConfig(fast_dev_run=given, max_epochs=3)
    assert config.resolved() is config


def test_overfit_batches_limits_training_and_validation_only():
    config = TrainerConfig(overfit_batches=2)
    assert [config.limit(stage) for stage in ("train", "val", "test", "predict")] == [2, 2, 1.0, 1.0]


@pytest.mark.parametrize("limit", [0, 1, 7, 0.0, 0.25, 1.0])
def test_limit_keeps_its_type(limit):
    found = TrainerConfig(limit_val_batches=limit).limit("val")
    assert (found, type(found)) == (limit, type(limit))


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"min_epochs": 5, "max_epochs": 3}, ("min_epochs=5", "max_epochs=3")),
        ({"min_steps": 5, "max_steps": 3}, ("min_steps=5", "max_steps=3")),
        ({"check_val_every_n_epoch": None}, ("check_val_every_n_epoch=None", "val_check_interval", "1.0")),
        ({"overfit_batches": 1, "fast_dev_run": True}, ("overfit_batches", "fast_dev_run")),
        ({"overfit_batches": 2, "limit_train_batches": 5}, ("overfit_batches", "limit_train_batches")),
        ({"overfit_batches": 2, "limit_val_batches": 5}, ("overfit_batches", "limit_val_batches")),
        ({"gradient_clip_algorithm": "value"}, ("gradient_clip_algorithm", "gradient_clip_val")),
    ],
    ids=str,
)
def test_options_that_contradict_each_other_are_refused(options, names):
    """Nothing is silently ignored: of two options that cannot both hold, neither wins quietly."""
    with pytest.raises(ConfigError) as caught:
        TrainerConfig(**options)
    assert all(name in str(caught.value) for name in names)


def test_config_is_frozen():
    with pytest.raises(AttributeError):
        TrainerConfig().max_epochs = 3
