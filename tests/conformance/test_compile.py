"""compile=True: the same bits on each backend, and the same names in every file."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from unitrain import ConfigError, UnifiedTrainer
from unitrain.testing.cases import adversarial, spec
from unitrain.testing.conformance import assert_same
from unitrain.testing.models import loader
from unitrain.testing.trace import Case, record

FRAMEWORKS = ("ignite", "lightning")


class Seen(nn.Module):
    """Notes in which of its parts it was compiled."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(36, 6), nn.Dropout(0.2), nn.ReLU())
        self.head = nn.Linear(6, 5)
        self.modes = set()

    def forward(self, inputs):
        self.modes.add(torch.compiler.is_compiling())
        return self.head(self.body(inputs))


def compiled_spec():
    return replace(spec("mlp", "sgd"), model=Seen())


CASES = {
    "automatic": Case(
        name="compiled", spec=compiled_spec, train=loader, val=loader, options={"compile": True, "max_epochs": 2}
    ),
    "manual": Case(name="compiled-manual", spec=adversarial, train=loader, options={"compile": True, "max_epochs": 1}),
    "mixed": Case(
        name="compiled-mixed",
        spec=compiled_spec,
        train=loader,
        val=loader,
        options={"compile": True, "precision": "16-mixed", "max_epochs": 1, "gradient_clip_val": 0.1},
    ),
}


@pytest.mark.parametrize(
    "case", ["automatic", *(pytest.param(name, marks=pytest.mark.slow) for name in ("manual", "mixed"))]
)
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # torch's own look
def test_a_compiled_run_equals_the_bare_loop(case):
    counters.clear()
    expected = record("reference", CASES[case])
    graphs = counters["stats"]["unique_graphs"]
    assert graphs >= (4 if case == "manual" else 2)
    for number, framework in enumerate(FRAMEWORKS, 2):
        assert_same(expected, record(framework, CASES[case]))
        assert counters["stats"]["unique_graphs"] == graphs * number
    assert not counters["graph_break"]
    assert not [name for name in expected.weights if "_orig_mod" in name]


@pytest.mark.parametrize("framework", ["reference", *FRAMEWORKS])
def test_the_model_is_compiled_during_the_run_alone(framework):
    made = compiled_spec()
    trainer = UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False, compile=True)
    assert trainer.fit(made, [(torch.randn(4, 36), torch.zeros(4, dtype=torch.long))] * 2).step == 2
    assert made.model.modes == {True}
    made.model(torch.randn(4, 36))
    assert made.model.modes == {True, False}
    assert not any("_compiled_call_impl" in vars(module) for module in made.model.modules())


@pytest.mark.parametrize("framework", ["reference", *FRAMEWORKS])
@pytest.mark.parametrize("by", [torch.compile, lambda model: (model.compile(), model)[1]])
def test_a_model_that_is_compiled_already_is_refused(framework, by):
    trainer = UnifiedTrainer(framework, enable_progress_bar=False, compile=True)
    with pytest.raises(ConfigError, match="already compiled"):
        trainer.fit(replace(spec(), model=by(Seen())), loader())
