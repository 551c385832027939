"""A checkpoint with one value changed by hand is refused by a UnitrainError, or resumed: it raises no raw error."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.optim.optimizer import register_optimizer_step_pre_hook

from tests.checkpoint import mutations
from unitrain import CheckpointError
from unitrain.checkpoint import optimizer_forms, restore
from unitrain.errors import UnitrainError

BACKENDS = ("lightning", "ignite", "reference")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def content():
    """What a file holds that was written within an epoch and within an accumulation."""
    with tempfile.TemporaryDirectory() as folder:
        return mutations.written(Path(folder))


def raised(content, framework="reference"):
    """Return what resuming from ``content`` raises, or None."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(restore.parts, "read_any", lambda path: content)
        (Path(folder) / "x.ckpt").touch()
        trainer = mutations.trainer(Path(folder), framework, max_epochs=2)
        try:
            loader = mutations.loader()
            trainer.fit(mutations.spec(), loader, mutations.loader(), ckpt_path=Path(folder) / "x.ckpt")
        except Exception as error:  # noqa: BLE001 - which one is the question
            return error
        return None


def raw(content, changes, framework="reference", only=""):
    """Return the changes, and what they raise that is not an error of unitrain's."""
    found = {}
    for path, change in changes:
        given = mutations.changed(content, path, change) if ".".join(map(str, path)).startswith(only) else None
        error = None if given is None else raised(given, framework)
        if error is not None and not isinstance(error, UnitrainError):
            found[".".join(map(str, path)), change] = repr(error)
    return found


def some(content, change, every):
    """Return each so many-th place with ``change``, beginning with another one for each change."""
    offset = list(mutations.CHANGES).index(change)
    return [(path, change) for path in list(mutations.places(content))[offset::every]]


@pytest.mark.parametrize("change", mutations.CHANGES)
def test_a_changed_value_raises_no_raw_error(content, change):
    assert not raw(content, some(content, change, 41))


@pytest.mark.slow
@pytest.mark.parametrize("change", mutations.CHANGES)
def test_no_changed_value_raises_a_raw_error(content, change):
    assert not raw(content, some(content, change, 1))


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["lightning", "ignite"])
@pytest.mark.parametrize("change", mutations.CHANGES)
def test_nor_on_another_backend(content, framework, change):
    assert not raw(content, some(content, change, 8), framework)


def test_the_file_as_it_was_written_is_resumed(content):
    assert raised(content) is None


TOLD = {
    ("unitrain", "progress", "in_epoch"): ("text", r"unitrain\['progress'\]\['in_epoch'\] is 'x', not a count"),
    ("unitrain", "hub", "counts", "batch_end"): ("negative", r"\['counts'\]\['batch_end'\] is -1, not a count"),
    ("unitrain", "progress", "rng", "python", 0): ("huge", r"contents are not as unitrain writes them \(ValueError"),
    ("unitrain", "progress", "rng", "python", 1): (
        "text",
        r"\['python'\]\[1\] is 'x', not the 625 words of a generator",
    ),
    ("unitrain", "progress", "rng", "numpy", 1): ("tensor", r"\(3, 1, 2\), not the 624 words of a generator"),
    ("unitrain", "callbacks", "EMA", "step"): (
        "text",
        r"state does not fit EMA: its state\['step'\] is 'x', not a number",
    ),
    ("optimizer_states", 0, "state", 0, "exp_avg"): (
        "gone",
        "does not fit Adam: the state of a parameter lacks 'exp_avg'",
    ),
    ("optimizer_states", 0, "state", 0, "exp_avg_sq"): ("tensor", r"'exp_avg_sq' does not have the shape \(2, 2\)"),
    ("optimizer_states", 0, "param_groups", 0, "lr"): ("list", r"does not fit Adam: group 0\['lr'\] is \[\]"),
    ("optimizer_states", 0, "param_groups", 0, "params", 0): ("None", "does not fit Adam: the parameters of group 0"),
    ("lr_schedulers", 0, "last_epoch"): ("gone", "does not fit StepLR: it lacks 'last_epoch'"),
    ("unitrain", "progress", "meter", "metrics", "mae", "total"): ("dict", "the state of the metric 'mae'"),
    ("unitrain", "progress", "gradients", "0.weight"): ("tensor", r"gradient of '0.weight' has the shape \(3, 1, 2\)"),
    ("unitrain", "progress", "rng_at_iter"): ("None", "within an epoch and has no 'rng_at_iter'"),
}


@pytest.mark.parametrize("framework", BACKENDS)
@pytest.mark.parametrize("path", TOLD, ids=lambda path: ".".join(map(str, path)))
def test_the_place_is_told_before_training(content, framework, path):
    change, words = TOLD[path]
    error = raised(mutations.changed(content, path, change), framework)
    assert isinstance(error, CheckpointError)
    assert re.search(words, str(error)), error
    assert "Hint: " in str(error)


FAULTS = {
    "the form": (restore, "misfit", lambda own, place: None, "unitrain.hub.counts"),
    "the optimizer": (restore, "require_usable", lambda *arguments: None, "optimizer_states.0.state.0"),
    "the kinds": (restore, "unlike", lambda *arguments, **options: None, "lr_schedulers.0"),
    "the step": (optimizer_forms, "_made", lambda *arguments: {}, "optimizer_states.0.state.0"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_without_a_check_raw_errors_would_be_seen(content, fault, monkeypatch):
    owner, name, fake, only = FAULTS[fault]
    monkeypatch.setattr(owner, name, fake)
    assert raw(content, some(content, "text", 1), only=only)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adagrad", "RMSprop", "NAdam", "RAdam", "Adamax", "Adadelta"])
def test_a_state_of_each_of_torchs_optimizers_is_taken_up(name):
    require_taken(name, lr=0.1)


MORE = {
    "SGD": {"momentum": 0.9, "nesterov": True},
    "Adam": {"amsgrad": True, "foreach": True},
    "AdamW": {"fused": True},
    "ASGD": {},
    "Rprop": {},
    "Adafactor": {},
    "SparseAdam": {},
}


@pytest.mark.parametrize("name", MORE)
def test_a_state_with_other_options_is_taken_up(name):
    require_taken(name, lr=0.1, **MORE[name])


def require_taken(name, **options):
    def stepped(steps):
        model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
        made = getattr(torch.optim, name)(model.parameters(), **options)
        for _ in range(steps):
            for one in model.parameters():
                one.grad = torch.ones_like(one).to_sparse() if name == "SparseAdam" else torch.ones_like(one)
            made.step()
        return made

    written, new = stepped(3).state_dict(), stepped(0)
    known = new.param_groups
    before = [one.clone() for group in known for one in group["params"]]
    new.load_state_dict(written)
    optimizer_forms.require_usable(new, written, known)
    assert all(map(torch.equal, before, [one for group in new.param_groups for one in group["params"]]))
    for number, state in new.state_dict()["state"].items():
        for kind, one in state.items():
            assert one is None or torch.equal(torch.as_tensor(one), torch.as_tensor(written["state"][number][kind]))


def options_taken(options, changed):
    made = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))], **options)
    state = made.state_dict()
    state["param_groups"][0].update(changed)
    known = made.param_groups
    made.load_state_dict(state)
    optimizer_forms.require_usable(made, state, known)


@pytest.mark.parametrize("name", ["fused", "foreach"])
def test_a_choice_that_the_file_leaves_to_torch_is_taken_up(name):
    options_taken({name: True}, {name: None})
    options_taken({name: None}, {name: True})
    with pytest.raises(ValueError, match="group 0\\['lr'\\] is None, not a number"):
        options_taken({}, {"lr": None})


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate")
def test_a_parameter_given_twice_is_numbered_as_torch_numbers_it():
    one = torch.nn.Parameter(torch.ones(2))
    made = torch.optim.SGD([one, one, torch.nn.Parameter(torch.ones(3))], lr=0.1, momentum=0.9)
    sum(one.sum() for one in made.param_groups[0]["params"]).backward()
    made.step()
    state, known = made.state_dict(), made.param_groups
    made.load_state_dict(state)
    optimizer_forms.require_usable(made, state, known)


def test_the_trial_step_calls_no_hooks_of_the_users():
    calls = []
    handle = register_optimizer_step_pre_hook(lambda *arguments: calls.append(1))
    try:
        require_taken("Adam", lr=0.1)
    finally:
        handle.remove()
    assert len(calls) == 3  # of the steps that were asked for


def test_a_scheduler_of_a_release_that_knew_fewer_options_is_taken_up():
    made = ReduceLROnPlateau(torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1))
    state = made.state_dict()
    for name in ("eps", "default_min_lr"):
        del state[name]
    restore._require_alike(made, state, made.state_dict)
    del state["num_bad_epochs"]
    with pytest.raises(ValueError, match="lacks 'num_bad_epochs'"):
        restore._require_alike(made, state, made.state_dict)
