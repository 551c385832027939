"""The layers of a model as a table: counted by hand, the same text everywhere, and the model stays as it is."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import unitrain
from unitrain import ModelSummary, SpecError, summarize
from unitrain.testing.models import Tied, cnn

TABLE = """\
Sequential
name  type         parameters  trainable  in            out
--------------------------------------------------------------------
0     Unflatten             0             [2, 36]       [2, 1, 6, 6]
1     Conv2d               40  no         [2, 1, 6, 6]  [2, 4, 4, 4]
2     BatchNorm2d           8  yes        [2, 4, 4, 4]  [2, 4, 4, 4]
3     ReLU                  0             [2, 4, 4, 4]  [2, 4, 4, 4]
4     Flatten               0             [2, 4, 4, 4]  [2, 64]
5     Linear              325  yes        [2, 64]       [2, 5]
373 parameters: 333 trainable, 40 frozen
0.002 MB: 0.001 MB parameters, 0.000 MB buffers"""
"""4·9+4, 2·4 and 64·5+5 parameters of 4 bytes; the buffers of a batch norm are 2·4 numbers of 4 bytes and one of 8."""


def frozen_cnn():
    torch.manual_seed(0)
    model = cnn()
    model[1].requires_grad_(False)
    return model


def test_table_is_as_counted_by_hand():
    summary = summarize(frozen_cnn(), example_input=torch.zeros(2, 36))
    assert str(summary) == TABLE
    assert (summary.parameters, summary.trainable, summary.frozen) == (373, 333, 40)
    assert (summary.parameter_bytes, summary.buffer_bytes) == (4 * 373, 4 * 8 + 8)
    assert summary.megabytes == (4 * 373 + 40) / 1e6


def test_the_same_text_before_training_on_every_backend(framework, fit, make_spec, capsys):
    callback = ModelSummary(example_input=torch.zeros(2, 4))
    result, _ = fit(framework, callback)
    printed = capsys.readouterr().out
    assert printed == f"{summarize(nn.Linear(4, 1), example_input=torch.zeros(2, 4))}\n"
    assert "(the model itself)  Linear           5  yes        [2, 4]  [2, 1]" in printed
    assert str(callback.summary) == printed[:-1]
    assert result.history == fit(framework)[0].history


def test_example_of_the_spec_is_taken(framework, fit, make_spec, capsys):
    fit(framework, spec=make_spec(callbacks=[ModelSummary()], example_input=torch.zeros(3, 4)))
    assert "[3, 4]" in capsys.readouterr().out
    assert "[3, 4]" in str(summarize(make_spec(example_input=torch.zeros(3, 4))))


@pytest.mark.parametrize("precision", ["bf16-true", "bf16-mixed", "64-true"])
def test_example_follows_the_precision_of_the_model(framework, fit, precision, capsys):
    fit(framework, ModelSummary(example_input=torch.zeros(2, 4)), precision=precision, max_epochs=1)
    assert "[2, 1]" in capsys.readouterr().out


class Noisy(nn.Module):
    """Draws random numbers, counts its calls and is partly in eval mode."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.norm.eval()
        self.calls = 0
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, inputs):
        self.calls += 1
        self.seen += 1
        noise = torch.rand(4) + random.random() + float(np.random.rand())  # noqa: NPY002 - the global ones
        return self.norm(self.layer(inputs) + noise)


def test_model_modes_and_random_numbers_stay():
    model = Noisy()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    summarize(model, example_input=torch.zeros(2, 4))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert (model.training, model.norm.training, model.calls) == (True, False, 0)
    assert not any(module._forward_hooks for module in model.modules())
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])


def test_without_a_copy_the_model_would_change(monkeypatch):
    monkeypatch.setattr("copy.deepcopy", lambda model: model)
    model = Noisy()
    summarize(model, example_input=torch.zeros(2, 4))
    assert model.calls == 1
    assert not model.training


def test_shared_parameters_count_once():
    summary = summarize(Tied())  # 36·5+5, 5·36+36, and the first weight again
    assert summary.parameters == 185 + 216
    assert [(layer.name, layer.parameters, layer.shared) for layer in summary.layers] == [
        ("encode", 185, False),
        ("middle", 216, False),
        ("decode", 0, True),
    ]
    assert "decode  Linear          0*" in str(summary)
    assert "* shares parameters with a layer above" in str(summary)


def test_one_layer_at_two_places_counts_once():
    layer = nn.Linear(2, 2)
    summary = summarize(nn.Sequential(layer, nn.Sequential(layer, nn.Linear(2, 1))), depth=-1)
    assert summary.parameters == 9
    found = [(one.name, one.parameters, one.shared) for one in summary.layers]
    assert found == [("0", 6, False), ("1", 3, True), ("1.0", 0, True), ("1.1", 3, False)]


def test_lazy_layers_are_shown_and_stay_lazy():
    model = nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 2))
    summary = summarize(model)
    assert summary.lazy
    assert summary.parameters == 8
    assert "0     LazyLinear        lazy" in str(summary)
    assert "excluding uninitialized lazy layers" in str(summary)
    called = summarize(model, example_input=torch.zeros(2, 4))
    assert not called.lazy
    assert called.parameters == 4 * 3 + 3 + 8
    assert "LazyLinear          15  yes        [2, 4]  [2, 3]" in str(called)
    assert isinstance(model[0], nn.LazyLinear)


def test_parameters_of_the_model_itself_have_a_row():
    model = Tied()
    model.scale = nn.Parameter(torch.ones(7))
    layers = summarize(model).layers
    assert (layers[0].name, layers[0].parameters) == ("", 7)
    assert sum(layer.parameters for layer in layers) == summarize(model).parameters == 408


@pytest.mark.parametrize(("depth", "rows"), [(0, 1), (1, 1), (2, 2), (3, 4), (-1, 4)])
def test_depth_says_how_many_levels(depth, rows):
    model = nn.Sequential(nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU())))
    summary = summarize(model, depth)
    assert len(summary.layers) == rows
    assert summary.layers[0].parameters == summary.parameters == 6


class Long(nn.Module):
    def __init__(self):
        super().__init__()
        self.a_name_that_goes_on_and_on_and_on = type("AClassWithALongNameThatGoesOnAndOn", (nn.Linear,), {})(999, 999)

    def forward(self, inputs):
        found = self.a_name_that_goes_on_and_on_and_on(inputs)
        return {"first": found, "second": (found, [found, 3])}


@pytest.mark.parametrize("depth", [0, 1])
def test_table_fits_a_terminal(depth):
    text = str(summarize(Long(), depth, torch.zeros(11, 12, 999)))
    assert max(map(len, text.splitlines())) <= 100
    assert "…" in text


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: summarize(3), "takes a module or a TrainSpec; got 3"),
        (lambda: summarize(nn.Linear(2, 2), -2), r"depth=\) must be a number of levels, or -1 for all; got -2"),
        (lambda: summarize(nn.Linear(2, 2), True), "got True"),
        (lambda: ModelSummary(1.5), r"ModelSummary\(depth=\)"),
        (lambda: summarize(nn.Linear(2, 2), example_input=torch.zeros(2, 3)), "could not call a copy of Linear"),
    ],
)
def test_what_cannot_be_summarized_is_refused(call, says):
    with pytest.raises(SpecError, match=says) as caught:
        call()
    assert "\nHint: " in str(caught.value)


def test_wrong_example_stops_before_training(framework, fit, make_spec):
    spec = make_spec(callbacks=[ModelSummary(example_input=torch.zeros(2, 3))])
    before = spec.model.weight.clone()
    with pytest.raises(SpecError, match="could not call a copy of Linear"):
        fit(framework, spec=spec)
    assert torch.equal(spec.model.weight, before)


def test_compiled_and_hooked_models_can_be_copied():
    model = nn.utils.parametrizations.weight_norm(nn.Linear(4, 2))
    assert summarize(model, depth=0, example_input=torch.zeros(1, 4)).parameters == 2 + 2 + 8
    model = nn.Linear(4, 2)
    model.compile(backend="eager")
    assert summarize(model, example_input=torch.zeros(1, 4)).layers[0].out_size == "[1, 2]"


def test_names_are_exported_and_import_nothing_more():
    assert {"ModelSummary", "Summary", "summarize"} <= set(unitrain.__all__)
    code = "import unitrain, sys; unitrain.summarize; assert not {'lightning', 'ignite', 'rich'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
