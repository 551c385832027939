"""An export leaves the module, the random numbers and what is around it as they were, also when it fails."""

import logging
import random
import sys
import warnings

import pytest
import torch
from torch import nn

from unitrain import ExportError
from unitrain.export.formats.table import FORMATS
from unitrain.export.pipeline import export_module

ROWS = torch.randn(2, 4)


def net():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))


def state_of(module):
    objects = [*module.parameters(), *module.buffers()]
    return {
        "modes": [one.training for one in module.modules()],
        "objects": [id(one) for one in objects],
        "memory": [one.data_ptr() for one in objects],
        "wanted": [one.requires_grad for one in objects],
    }, [one.detach().clone() for one in objects]


def same(before, after):
    return before[0] == after[0] and all(
        torch.equal(one, other) for one, other in zip(before[1], after[1], strict=True)
    )


@pytest.mark.parametrize("half", [False, True])
def test_modes_parameters_and_random_numbers_stay(tmp_path, half):
    module = net()
    module[1].eval()  # as in fine-tuning
    module[0].weight.requires_grad_(False)
    before, numbers = state_of(module), (torch.get_rng_state(), random.getstate())
    example = ROWS.clone()

    export_module(module, tmp_path / "x.pt2", example_input=example, half=half)

    assert same(before, state_of(module))
    assert torch.equal(torch.get_rng_state(), numbers[0])
    assert random.getstate() == numbers[1]
    assert torch.is_grad_enabled()
    assert torch.equal(example, ROWS)


def test_all_stays_when_the_export_fails(tmp_path):
    class Fails(nn.Sequential):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else x

    module = Fails(*net())
    before = state_of(module)
    with pytest.raises(ExportError):
        export_module(module, tmp_path / "x.pt2", example_input=ROWS, half=True)
    assert same(before, state_of(module))
    assert not list(tmp_path.iterdir())


def test_dropout_in_train_mode_is_not_in_the_file(tmp_path):
    module = net().train()
    export_module(module, tmp_path / "x.pt2", example_input=ROWS)
    given = torch.export.load(tmp_path / "x.pt2").module()(ROWS)
    assert torch.equal(given, module.eval()(ROWS))


def test_the_optimizer_goes_on_with_the_same_parameters(tmp_path):
    module = net()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    export_module(module, tmp_path / "x.pt2", example_input=ROWS)
    before = module[0].weight.detach().clone()
    module(ROWS).sum().backward()
    optimizer.step()
    assert not torch.equal(before, module[0].weight)


def test_tied_weights_stay_tied_and_are_written_once(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(5, 4)
            self.head = nn.Linear(4, 5, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, ids):
            return self.head(self.embed(ids))

    module = Tied()
    export_module(module, tmp_path / "x.pt2", example_input=torch.zeros(2, 3, dtype=torch.long))
    export_module(module, tmp_path / "x.safetensors")
    assert module.head.weight is module.embed.weight
    assert (tmp_path / "x.safetensors").stat().st_size < 2 * 5 * 4 * 4 + 600
    program = torch.export.load(tmp_path / "x.pt2")
    assert len({one.data_ptr() for one in program.state_dict.values()}) == 1


def test_recurrent_layers_keep_their_flat_weights(tmp_path):
    module = nn.LSTM(4, 3, batch_first=True)
    weights = [id(one) for one in module._flat_weights]
    report = export_module(module, tmp_path / "x.pt2", example_input=torch.randn(2, 5, 4), half=False)
    assert [id(one) for one in module._flat_weights] == weights
    assert [one["name"] for one in report.metadata["outputs"]] == ["output_0", "output_1_0", "output_1_1"]


def test_what_is_compiled_is_exported_uncompiled(tmp_path):
    module = net()
    module.compile()
    module[3] = torch.compile(module[3], backend=_never)
    export_module(torch.compile(module, backend=_never), tmp_path / "x.pt2", example_input=ROWS)
    assert module._compiled_call_impl is not None
    given = torch.export.load(tmp_path / "x.pt2")
    assert {"model.0.weight", "model.3._orig_mod.weight"} <= given.state_dict.keys()


def _never(graph, inputs):
    raise AssertionError("compiled")


def test_nothing_is_printed_logged_or_warned(tmp_path, capfd):
    levels = {name: logging.getLogger(name).level for name in ("torch.onnx", "torch.export", "onnxscript")}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("x.onnx", "x.pt2", "x.safetensors"):
            options = {} if name == "x.safetensors" else {"example_input": ROWS}
            export_module(net(), tmp_path / name, **options)
    assert capfd.readouterr() == ("", "")
    assert {name: logging.getLogger(name).level for name in levels} == levels


def test_torchscript_is_told_to_be_legacy_once(tmp_path):
    with pytest.warns(FutureWarning, match="torch_export") as told:
        export_module(net(), tmp_path / "x.pt", example_input=ROWS)
    assert len(told) == 1
    assert told[0].filename == __file__


@pytest.mark.filterwarnings("default")
def test_warnings_reach_standard_error_once_and_prints_do_not(tmp_path, capsys, monkeypatch):
    class Tells(nn.Linear):
        def forward(self, x):
            warnings.warn("a word of the model", stacklevel=1)
            sys.stdout.write("a line of the model")
            return super().forward(x)

    def show(message, *_):  # as Python does; pytest keeps them
        sys.stderr.write(f"{message}\n")

    monkeypatch.setattr(warnings, "showwarning", show)
    export_module(Tells(4, 3), tmp_path / "x.pt", example_input=ROWS)
    out, err = capsys.readouterr()
    assert err.count("TorchScript is deprecated by torch") == 1
    assert err.count("a word of the model") == 1
    assert "a line of the model" not in out + err


@pytest.mark.filterwarnings("ignore:TorchScript is deprecated:FutureWarning")
@pytest.mark.parametrize("name", ["x.onnx", "x.pt2", "x.pt"])
def test_the_example_is_not_in_the_file(tmp_path, name):
    example = torch.randn(2, 4)
    export_module(net(), tmp_path / name, example_input=example)
    assert example[1].numpy().tobytes() not in (tmp_path / name).read_bytes()


def test_every_format_is_there():
    assert {"onnx", "torch_export", "torchscript", "safetensors"} <= FORMATS.keys()
