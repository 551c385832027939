"""``unitrain export``: exports the model of a checkpoint."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch.export import Dim

from unitrain.checkpoint.convert.command import called, named_in, template_of
from unitrain.errors import ConfigError
from unitrain.export.formats.table import FORMATS
from unitrain.export.pipeline import export_module
from unitrain.export.sources import Weights, from_checkpoint
from unitrain.export.wrap import unwrapped
from unitrain.spec import TrainSpec
from unitrain.utilities.files import user_path

if TYPE_CHECKING:
    import argparse

    from torch import Tensor, nn

_DESCRIPTION = """\
Export the model of the checkpoint CKPT to OUT, for use without unitrain, and compare the file with the model at batch
size one, at the example's batch size and at a larger one. If they differ by more than the tolerance, no file is
written.

CKPT is a checkpoint of unitrain, Lightning (any version) or Ignite, a bare state_dict or a .safetensors file. Reading
it runs no code from the file.
"""

_EXAMPLES = """\
a file for any runtime, with the example from TrainSpec(example_input=...):
  unitrain export run.ckpt model.onnx --model train:make_spec

describe an input by its shape, batch first, and by its dtype if it is not float32:
  unitrain export run.ckpt model.onnx --model train:make_net --example 1,3,224,224
  unitrain export run.ckpt model.onnx --model train:make_net --example ids=2,128:int64 --example mask=2,128:bool
or load a real example from a module (a tensor, or a function that returns one), whose first row is stored in the file:
  unitrain export run.ckpt model.onnx --model train:make_net --example train:one_batch

a dynamic sequence axis beside the batch, with custom names:
  unitrain export run.ckpt model.onnx --model train:make_spec \\
    --input-name ids --output-name logits --dynamic ids:0=batch --dynamic ids:1=sequence

for a small device with ExecuTorch, which needs the maximum batch size, with int8 weights:
  unitrain export run.ckpt model.pte --model train:make_spec --dynamic input:0=batch:64 --quantize int8

the moving average, in half precision, for torch.export.load:
  unitrain export run.ckpt model.pt2 --model train:make_spec --weights ema --half

only the weights:
  unitrain export run.ckpt model.safetensors --model train:make_net

The suffix of OUT selects the format: .onnx, .pt2 (torch_export), .pt (torchscript, legacy), .safetensors, .pte
(executorch); --format chooses between formats with the same suffix. The file's metadata contains the versions, the
inputs and the SHA-256 of CKPT.
"""

_INPUT = re.compile(r"(?:(?P<name>\w+)=)?(?P<shape>\d+(?:,\d+)*)?(?::(?P<dtype>\w+))?")
_AXIS = re.compile(r"(?P<input>\w+):(?P<axis>\d+)=(?P<name>\w+)(?::(?P<most>\d+))?")
_SEED = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.description, parser.epilog = _DESCRIPTION, _EXAMPLES
    add = parser.add_argument
    add("ckpt", metavar="CKPT", type=user_path, help="the checkpoint to read")
    add("out", metavar="OUT", type=user_path, help="the file to write, atomically")
    add("--model", metavar="MODULE:NAME", required=True, help="the TrainSpec or module, or a function that returns it")
    add("--format", choices=list(FORMATS), help="default: from the suffix of OUT")
    add(
        "--example",
        metavar="WHAT",
        action="append",
        help="[NAME=]SHAPE[:DTYPE] of a tensor, named for a model that takes a dict or keywords; or MODULE:NAME, whose"
        " first row is stored in the file",
    )
    add("--weights", choices=get_args(Weights), default="model", help="ema: the average of the EMA callback")
    add("--part", metavar="WORD", help="the prefix of the model's names in CKPT, if several match")
    add("--input-name", metavar="NAME", action="append", help="a name for each input, in order")
    add("--output-name", metavar="NAME", action="append", help="a name for each output, in order")
    add("--dynamic", metavar="INPUT:AXIS=NAME[:MAX]", action="append", help="an axis of any length")
    add("--static", action="store_true", help="fix all axes to the lengths of the example")
    add("--opset", type=int, help="the ONNX opset; default: the one that matches torch")
    add("--half", action="store_true", help="compute in float16; inputs and outputs keep their dtype")
    add("--quantize", metavar="KIND", help="quantize the weights; the only KIND is int8")
    add("--preprocess", metavar="MODULE:NAME", help="a module to run before the model")
    add("--postprocess", metavar="MODULE:NAME", help="a module to run after it")
    add("--tolerance", type=float, help="the allowed difference, relative to the largest output")


def run(arguments: argparse.Namespace) -> int:
    """Export, print the differences from the model, and return the exit status.

    Raises:
        UnitrainError: If an argument is invalid, or the export fails.
    """
    made = template_of(arguments.model)
    model = unwrapped(made.model if isinstance(made, TrainSpec) else made)
    source = from_checkpoint(arguments.ckpt, model, arguments.weights, arguments.part)
    options: dict[str, Any] = {
        "example_input": None if arguments.example is None else _example(arguments.example),
        "input_names": arguments.input_name,
        "output_names": arguments.output_name,
        "dynamic_axes": _axes(arguments.dynamic, static=arguments.static),
        "preprocess": _module(arguments.preprocess, "--preprocess"),
        "postprocess": _module(arguments.postprocess, "--postprocess"),
        **{key: getattr(arguments, key) for key in ("opset", "half", "quantize", "tolerance")},
    }
    report = export_module(
        model,
        arguments.out,
        format=arguments.format,
        weights=source.tensors,
        source=source.facts,
        default_example=made.example_input if isinstance(made, TrainSpec) else _own_example(made),
        **options,
    )
    print(report)  # noqa: T201 - a command
    return 0


def _own_example(model: nn.Module) -> Any:
    """Return what a LightningModule says its input is like."""
    return getattr(model, "example_input_array", None)


def _module(given: str | None, option: str) -> nn.Module | None:
    if given is None:
        return None
    made = template_of(given, option)
    return made.model if isinstance(made, TrainSpec) else made


def _example(given: list[str]) -> Any:
    """Return the example that ``--example`` means: one tensor, several, or several by name.

    Raises:
        ConfigError: If it is invalid.
    """
    shapes = [_INPUT.fullmatch(one) for one in given]
    if len(given) == 1 and (shapes[0] is None or shapes[0]["shape"] is None):
        found = named_in(given[0], "--example")
        return called(given[0], found, "--example") if callable(found) else found
    made = [(match["name"], _tensor(match)) for match in shapes if match is not None and match["shape"] is not None]
    names = [name for name, _ in made if name is not None]
    if len(made) < len(given) or len(set(names)) not in (0, len(given)):
        raise ConfigError(
            f"--example {' '.join(given)} is invalid; each must be [NAME=]SHAPE[:DTYPE], with names (of a dict or of"
            f" keywords) for all or for none.",
            hint="--example ids=2,128:int64 --example mask=2,128:bool",
        )
    if names:
        return dict(made)
    return made[0][1] if len(made) == 1 else tuple(one for _, one in made)


def _tensor(match: re.Match[str]) -> Tensor:
    """Return random numbers of a shape, of whole ones zeros: those are mostly numbers of rows in a table."""
    dtype = getattr(torch, match["dtype"] or "float32", None)
    if not isinstance(dtype, torch.dtype):
        raise ConfigError(f"--example: unknown torch dtype {match['dtype']!r}.", hint="--example ids=2,128:int64")
    shape = [int(one) for one in match["shape"].split(",")]
    if not dtype.is_floating_point:
        return torch.ones(shape, dtype=dtype) if dtype == torch.bool else torch.zeros(shape, dtype=dtype)
    return torch.randn(shape, generator=torch.Generator().manual_seed(_SEED)).to(dtype)


def _axes(given: list[str] | None, *, static: bool) -> dict[str, dict[int, Any]] | None:
    """Return ``dynamic_axes=``.

    Raises:
        ConfigError: If a text is invalid.
    """
    if static and given:
        raise ConfigError("--static and --dynamic contradict each other.", hint="leave one of them out.")
    if not given:
        return {} if static else None
    axes: dict[str, dict[int, Any]] = {}
    for one in given:
        match = _AXIS.fullmatch(one)
        if match is None:
            raise ConfigError(f"--dynamic {one!r} must be INPUT:AXIS=NAME[:MAX].", hint="--dynamic input:1=sequence")
        most = match["most"]
        name = match["name"] if most is None else Dim(match["name"], max=int(most))
        axes.setdefault(match["input"], {})[int(match["axis"])] = name
    return axes
