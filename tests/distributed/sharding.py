"""Run by torchrun on each process: what a model in parts (FSDP) does, compared bit by bit.

``torchrun --nproc-per-node 2 sharding.py SECTION FOLDER`` writes ``FOLDER/<rank>.json``: for each cell how it differs (an
empty list: not at all), or what was refused.

There are two oracles that share no training code with unitrain: the bare loop under DDP, which on two processes has the
same bits but where a norm is added up part by part (more than two gradients are added up in another order), and a loop of ``fully_shard`` as a person writes it.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import sys
import traceback
import warnings
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from unitrain import EMA, Event, ModelCheckpoint, TerminateOnNaN, TrainSpec, UnifiedTrainer, load_weights
from unitrain.checkpoint import restore as snapshot
from unitrain.checkpoint import sharded_files as parts
from unitrain.data.sharding import OwnBatches
from unitrain.distributed.collectives import ProcessGroup
from unitrain.distributed.options import FSDP
from unitrain.distributed.strategies.fsdp import Sharded
from unitrain.errors import UnitrainError
from unitrain.loop import fit as program
from unitrain.testing import cases
from unitrain.testing.conformance import ALL, trains
from unitrain.testing.models import loader, tensors
from unitrain.testing.trace import SEED, Case, differences, record

FRAMEWORKS = ("lightning", "ignite")
HERE = Path(__file__).parent
EPOCH = 3
"""Batches of an epoch for each of two processes."""


def together(case: Case, strategy: Any = "fsdp") -> Case:
    size = dist.get_world_size()
    return replace(case, options={"accelerator": "cpu", **case.options, "devices": size, "strategy": strategy})


def refusal(error: UnitrainError) -> str:
    return f"refused: {type(error).__name__}: {error}".partition("\nHint")[0]


def traced(framework: str, case: Case) -> Any:
    try:
        return record(framework, case)
    except UnitrainError as error:
        return refusal(error)


# --- the same bits ----------------------------------------------------------------------------------------------------

QUICK = [
    "cnn-sgd-plateau", "transformer-groups-step", "tied-adamw-epoch", "accumulate-4-midway-validation", "clip-value",
    "frozen-submodule", "stop-midway-validation", "16-mixed-value-3", "manual",
]  # fmt: skip
OTHERWISE = ("norm", "busy", "terminate-on-nan", "logged-value", "exploding", "poisoned", "-mixed-", "-true-")
"""Words in the names of cases that differ from whole parameters: a norm is added up by parts, noise is drawn for each
part, and a handler that writes into a view of a weight writes into a copy."""


LEFT_OUT = ("poisoned-unclipped-3", "poisoned-norm-3", "poisoned-value-3")
"""Their handler looks for a gradient after each backward pass; in between exchanges those of parts add up elsewhere."""


def equal(name: str) -> dict[str, Any]:
    """Compare both backends with each other, and with the bare loop under DDP where that has the same bits."""
    case = ALL[name]
    left, right = (traced(framework, together(case)) for framework in FRAMEWORKS)
    if isinstance(left, str):
        return {name: left if left == right else [f"{left} {right}"]}
    if not trains(left) and name != "stop-fit_start":
        return {name: ["nothing was trained"]}
    found = {f"{name} lightning ignite": differences(left, right)}
    if dist.get_world_size() == 2 and not any(word in name for word in OTHERWISE):
        found[f"{name} DDP by the bare loop"] = differences(traced("reference", together(case, "ddp")), left)
    everybody: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everybody, (left.weights, left.optimizers))
    found[f"{name} all processes"] = [one for other in everybody for one in differences(everybody[0], other)]
    return found


# --- by hand ----------------------------------------------------------------------------------------------------------

SAMPLES, BATCH, EPOCHS = 22, 4, 2
LAYERS = ((6, 9), (9, 7), (7, 1))
"""Sizes that do not divide by two, so that parts differ in size, and one is empty."""


class Inplace(nn.Module):
    """Changes in place what its parts return, which are views."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(6)
        self.first, self.second, self.relu = nn.Linear(3, 8), nn.Linear(8, 1), nn.ReLU(inplace=True)

    def forward(self, inputs):
        return self.second(self.relu(self.first(inputs.view(-1, 2, 3)))).mean(1)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.blocks = nn.ModuleList(nn.Linear(*sizes) for sizes in LAYERS)
        self.scale = nn.Parameter(torch.ones(7))

    def forward(self, inputs):
        hidden = nn.functional.dropout(torch.tanh(self.blocks[0](inputs)), 0.2, self.training)
        return self.blocks[2](torch.tanh(self.blocks[1](hidden)) * self.scale)


def dataset() -> TensorDataset:
    drawn = torch.Generator().manual_seed(1)
    return TensorDataset(torch.randn(SAMPLES, 6, generator=drawn), torch.randn(SAMPLES, 1, generator=drawn))


def by_hand(accumulate: int, clip: str | None, mixed: bool) -> dict[str, Any]:
    """Train with fully_shard by a loop of torch alone."""
    rank, size = dist.get_rank(), dist.get_world_size()
    model = Network()
    mesh = init_device_mesh("cpu", (size,))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    torch.manual_seed(SEED + rank)
    sampler = DistributedSampler(dataset(), seed=SEED)
    batches = DataLoader(dataset(), batch_size=BATCH, sampler=sampler)
    losses = []
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        for index, (inputs, target) in enumerate(batches):
            stepping = index + 1 == len(batches) or (index + 1) % accumulate == 0
            model.set_requires_gradient_sync(stepping)
            if index % accumulate == 0:
                optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, cache_enabled=False) if mixed else nullcontext():
                loss = nn.functional.mse_loss(model(inputs), target)
            losses.append(loss.detach())
            (loss / accumulate).backward()
            if stepping:
                if clip == "norm":
                    nn.utils.clip_grad_norm_(model.parameters(), 0.05)
                elif clip == "value":
                    nn.utils.clip_grad_value_(model.parameters(), 0.01)
                optimizer.step()
    weights = {name: value.full_tensor() for name, value in model.state_dict().items()}
    state = [{name: getattr(one, "full_tensor", lambda one=one: one)() for name, one in of.items()}
             for of in optimizer.state.values()]  # fmt: skip
    return {"weights": weights, "state": state, "losses": losses}


def mean_squares(output, target):
    return nn.functional.mse_loss(output, target)


def by_unitrain(
    framework: str, accumulate: int, clip: str | None, mixed: bool, strategy: Any = "fsdp"
) -> dict[str, Any]:
    model = Network()
    options: dict[str, Any] = {"accumulate_grad_batches": accumulate, "precision": "bf16-mixed" if mixed else "32-true"}
    if clip is not None:
        options |= {"gradient_clip_val": 0.05 if clip == "norm" else 0.01, "gradient_clip_algorithm": clip}
    trainer = UnifiedTrainer(
        framework, devices=dist.get_world_size(), strategy=strategy, accelerator="cpu", max_epochs=EPOCHS, seed=SEED,
        enable_progress_bar=False, **options,
    )  # fmt: skip
    losses: list[torch.Tensor] = []
    trainer.on(Event.BATCH_END, lambda run: losses.append(run.state.loss))
    spec = TrainSpec(model=model, loss=mean_squares, optimizer=partial(torch.optim.AdamW, lr=1e-2))
    trainer.fit(spec, DataLoader(dataset(), batch_size=BATCH, shuffle=True))
    state = list(trainer.optimizers["optimizer"].state.values())
    return {"weights": dict(model.state_dict()), "state": state, "losses": losses}


WAYS = [(1, None, False), (3, None, False), (1, "norm", False), (3, "value", False), (3, "norm", True)]


def oracle() -> dict[str, list[str]]:
    found = {}
    for way in WAYS:
        expected = by_hand(*way)
        for framework in FRAMEWORKS:
            found[f"by hand {way} {framework}"] = differences(expected, by_unitrain(framework, *way))
    expected = by_hand(3, "norm", False)
    for wrap in ((), (nn.Linear,), (Network, nn.Linear)):
        got = by_unitrain("ignite", 3, "norm", False, FSDP(wrap=wrap))
        found[f"by hand wrap={wrap}"] = differences(expected, got)
    return found


# --- what it is meanwhile and afterwards ------------------------------------------------------------------------------


def in_between(framework: str) -> dict[str, list[str]]:
    """While a fit runs, each process holds a part of all that is trained; afterwards the model is what it was."""
    model = Network()
    parameters, members = list(model.parameters()), [set(vars(module)) for module in model.modules()]
    classes = [type(module) for module in model.modules()]
    options = {"devices": 2, "strategy": "fsdp", "accelerator": "cpu", "seed": 0, "enable_progress_bar": False}
    trainer = UnifiedTrainer(framework, max_epochs=1, **options)
    bad: list[str] = []

    @trainer.on(Event.BATCH_END)
    def look(run):
        own = [one.to_local() for one in run.model.parameters() if isinstance(one, DTensor)]
        states = [one["exp_avg"].to_local() for one in run.optimizers["optimizer"].state.values()]
        whole = sum(one.numel() for one in run.model.parameters())
        for what, held in (("weights", own), ("state", states)):
            share = sum(one.numel() for one in held) / whole
            if not 0.3 < share < 0.7 or len(held) != len(parameters):
                bad.append(f"{what}: {share} of the whole in {len(held)} parameters")

    spec = TrainSpec(model=model, loss=mean_squares, optimizer=partial(torch.optim.AdamW, lr=1e-2))
    data = DataLoader(dataset(), batch_size=BATCH, shuffle=True)
    trainer.fit(spec, data, data)
    held = [one for group in trainer.optimizers["optimizer"].param_groups for one in group["params"]]
    checks = {
        "other parameters": all(a is b for a, b in zip(parameters, model.parameters(), strict=True)),
        "no plain tensors": not any(isinstance(one, DTensor) for one in model.parameters()),
        "the optimizer has others": all(a is b for a, b in zip(parameters, held, strict=True)),
        "something is left": [set(vars(module)) for module in model.modules()] == members,
        "other classes": [type(module) for module in model.modules()] == classes,
        "hooks": not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules()),
        "no step": all(one["step"] == 3 for one in trainer.optimizers["optimizer"].state.values()),
    }
    bad += [what for what, good in checks.items() if not good]
    copied = copy.deepcopy(model)
    if dist.get_rank() == 0:  # by itself, without the other
        copied(torch.zeros(2, 6)).sum().backward()
        trainer.optimizers["optimizer"].step()
    before = {name: one.clone() for name, one in copied.state_dict().items()}
    UnifiedTrainer(framework, max_epochs=1, **options).fit(spec, data)  # again
    bad += ["a second fit changes nothing"] if not differences(before, dict(model.state_dict())) else []
    return {f"in between {framework}": bad}


def extras(framework: str) -> dict[str, list[str]]:
    """A moving average, and a weight that one process finds to be broken."""
    bad = []
    options = {"devices": 2, "accelerator": "cpu", "seed": 0, "enable_progress_bar": False}
    ema = {}
    for backend, strategy in (("reference", "ddp"), (framework, "fsdp")):
        torch.manual_seed(0)
        spec, average = cases.spec(), EMA(decay=0.5)
        trainer = UnifiedTrainer(backend, max_epochs=2, strategy=strategy, callbacks=[average], **options)
        result = trainer.fit(spec, loader(), loader(shuffle=False, samples=9))
        last = trainer.validate(spec, loader(shuffle=False, samples=9))
        ema[strategy] = [average.average, result.history, last]
    bad += differences(ema["ddp"], ema["fsdp"])

    def poison(run):
        with torch.no_grad():
            next(run.model.parameters()).to_local()[:, 0] = torch.inf if run.rank else 0.0

    trainer = UnifiedTrainer(framework, max_epochs=2, strategy="fsdp", callbacks=[TerminateOnNaN()], **options)
    trainer.on(Event.OPTIMIZER_STEP(once=2), poison)
    result = trainer.fit(cases.spec(), loader())
    bad += [] if (result.stopped_by, result.step) == ("nan", 2) else [f"{result.stopped_by} after {result.step}"]
    return {f"extras {framework}": bad}


def uneven(framework: str) -> dict[str, list[str]]:
    """Validate where one process has more batches than the other, within and at the end of an epoch."""
    bad = []
    rank = dist.get_rank()
    inputs, classes = tensors()
    whole = [(inputs[i : i + 4], classes[i : i + 4]) for i in range(0, 20, 4)]
    for own in (whole if rank == 0 else whole[:1], whole[:3] if rank == 0 else whole):
        histories = []
        for backend, strategy in (("reference", "ddp"), (framework, "fsdp")):
            case = Case(
                name="", spec=partial(cases.spec, "transformer"), train=loader, val=lambda own=own: OwnBatches(own),
                options={"val_check_interval": 2},
            )  # fmt: skip
            histories.append(record(backend, together(case, strategy)))
        bad += differences(*histories)
    return {f"uneven {framework}": bad}


def stepping(model, batch):
    """Use the model by its parts, of which some are not called at all."""
    inputs, target = batch
    hidden = nn.functional.linear(torch.tanh(model.blocks[0](inputs)), model.blocks[1].weight)
    return mean_squares(model.blocks[2](hidden * model.scale), target)


def in_place() -> dict[str, list[str]]:
    """What is done in place to the output of a part does not get in the way."""
    reached = []
    for backend, strategy in (("reference", "ddp"), ("lightning", "fsdp"), ("ignite", "fsdp")):
        spec = TrainSpec(model=Inplace(), loss=mean_squares, optimizer=partial(torch.optim.AdamW, lr=1e-2))
        options = {"devices": 2, "accelerator": "cpu", "max_epochs": 2, "seed": 0, "enable_progress_bar": False}
        UnifiedTrainer(backend, strategy=strategy, **options).fit(spec, DataLoader(dataset(), batch_size=BATCH))
        reached.append(dict(spec.model.state_dict()))
    return {f"in place {index}": differences(reached[0], one) for index, one in enumerate(reached)}


def by_parts() -> dict[str, Any]:
    """A step that reaches into the model works where the parts belong to the root, and is explained elsewhere."""
    torch.manual_seed(0)
    spec = replace(cases.spec(model="mlp"), model=Network(), metrics=None, training_step=stepping)
    data = DataLoader(dataset(), batch_size=BATCH)
    options = {"devices": 2, "accelerator": "cpu", "max_epochs": 1, "seed": 0, "enable_progress_bar": False}
    reached = {}
    for backend, strategy in (("ddp", "ddp"), *((one, FSDP(wrap=())) for one in FRAMEWORKS)):
        made = replace(spec, model=Network())
        native = {"native": {"ddp": {"find_unused_parameters": True}}} if strategy == "ddp" else {}
        UnifiedTrainer("ignite" if backend == "ddp" else backend, strategy=strategy, **options, **native).fit(
            made, data
        )
        reached[backend] = dict(made.model.state_dict())
    found: dict[str, Any] = {
        f"by parts {backend}": differences(reached["ddp"], reached[backend]) for backend in FRAMEWORKS
    }
    try:
        UnifiedTrainer("ignite", strategy="fsdp", **options).fit(replace(spec, model=Network()), data)
    except RuntimeError as error:
        found["by parts, explained"] = [] if "FSDP(wrap=" in "".join(error.__notes__) else [repr(error)]
    else:
        found["by parts, explained"] = ["a part that was not called was not noticed"]
    return found


# --- checkpoints ------------------------------------------------------------------------------------------------------


def module(name: str, path: Path) -> Any:
    found = importlib.util.spec_from_file_location(name, path)
    made = importlib.util.module_from_spec(found)
    sys.modules[name] = made
    found.loader.exec_module(made)
    return made


POSITIONS = {"epoch boundary": EPOCH, "mid-epoch": EPOCH + 1, "mid-accumulation": EPOCH + 2}


def resume_case(position: str, precision: str = "32-true") -> Case:
    made = partial(cases.spec, "transformer", "adamw", "step", callbacks=[EMA(decay=0.5)])
    options = {"accumulate_grad_batches": 3} if "accumulation" in position else {}
    val = partial(loader, samples=11)
    return Case(name=position, spec=made, train=loader, val=val, options={**options, "precision": precision})


def write(framework: str, case: Case, after: int, path: Path, *, sharded: bool = False) -> None:
    """Train until ``after`` batches are done, write a checkpoint there and break off."""

    def act(trainer: UnifiedTrainer) -> None:
        trainer.on(Event.BATCH_END(once=after), lambda run: run.save_checkpoint(path, sharded=sharded))

        @trainer.on(Event.CHECKPOINT_SAVED)
        def crash():
            raise KeyboardInterrupt

    try:
        record(framework, replace(case, act=act))
    except KeyboardInterrupt:
        return
    raise AssertionError("no checkpoint was written")


def goes_on(whole: Any, framework: str, case: Case, path: Path) -> list[str]:
    way = module("resume", HERE.parent / "checkpoint" / "test_resume.py")
    try:
        way.assert_goes_on(whole, way.resumed(framework, case, path))
    except AssertionError as error:
        return [str(error)[:500]]
    return []


def without_fast_path(work: Any) -> Any:
    """Keep torch from evaluating a whole transformer by a kernel that it does not take for one in parts.

    In half precision that kernel rounds otherwise, so DDP and FSDP would validate the same weights to other last bits.
    """

    def run():
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            return work()
        finally:
            torch.backends.mha.set_fastpath_enabled(True)

    return run


def of_any_run(path: Path) -> dict[str, Any]:
    """Return a checkpoint without the name of its run, which no two runs share."""
    content = parts.read_any(path)
    del content["unitrain"]["hub"]["files"]["run"]
    return content


def checkpoints(folder: Path, positions: list[str], precisions: list[str]) -> dict[str, list[str]]:
    """A file is that of a run by DDP, bit by bit, and goes on to the same bits in parts and whole, on any backend."""
    found = {}
    for position in positions:
        for precision in precisions:
            case, after = resume_case(position, precision), POSITIONS[position]
            name = f"{position} {precision}"
            whole = record("ignite", together(case))
            files = {one: folder / f"{position}-{precision}-{one}.ckpt" for one in ("reference", *FRAMEWORKS, "folder")}
            write("reference", together(case, "ddp"), after, files["reference"])
            for framework in FRAMEWORKS:
                write(framework, together(case), after, files[framework])
            write("lightning", together(case), after, files["folder"], sharded=True)
            expected = of_any_run(files["reference"])
            for one in (*FRAMEWORKS, "folder"):
                found[f"{name} {one} is the file of DDP"] = differences(expected, of_any_run(files[one]))
            pairs = [("lightning", "ignite"), ("ignite", "lightning"), ("reference", "ignite"), ("folder", "ignite")]
            for writer, reader in [*pairs, ("folder", "lightning")]:
                found[f"{name} {writer} to {reader}"] = goes_on(whole, reader, together(case), files[writer])
            for writer in ("ignite", "folder"):
                got = goes_on(whole, "reference", together(case, "ddp"), files[writer])
                found[f"{name} {writer} to DDP"] = got
    return found


def two(folder: Path) -> dict[str, list[str]]:
    """Write the same state as a folder and as a file, for another number of processes."""
    case = together(resume_case("mid-accumulation"))
    write("lightning", case, POSITIONS["mid-accumulation"], folder / "two", sharded=True)
    write("ignite", case, POSITIONS["mid-accumulation"], folder / "two.ckpt")
    return {"two": differences(of_any_run(folder / "two"), of_any_run(folder / "two.ckpt"))}


def other_number(folder: Path) -> dict[str, list[str]]:
    """Go on with what two processes have written, on as many as there are: all readers reach the same."""
    case, found = resume_case("mid-accumulation"), {}
    way = module("resume", HERE.parent / "checkpoint" / "test_resume.py")
    expected = way.resumed("ignite", together(case), folder / "two.ckpt")
    for path, framework in (
        (folder / "two", "ignite"),
        (folder / "two.ckpt", "lightning"),
        (folder / "two", "lightning"),
    ):
        got = way.resumed(framework, together(case), path)
        found[f"{path.name} to {framework} on {dist.get_world_size()}"] = differences(expected, got)
    return found


def callback(folder: Path) -> dict[str, list[str]]:
    """ModelCheckpoint(sharded=True) keeps folders and removes those that fell out; ``"last"`` goes on from one."""
    keeper = ModelCheckpoint(folder / "kept", "{epoch}", sharded=True, save_top_k=1, save_last=True)
    case = together(resume_case("mid-epoch"))
    options = {"seed": SEED, "enable_progress_bar": False, **case.options}
    torch.manual_seed(0)
    trainer = UnifiedTrainer("lightning", max_epochs=2, callbacks=[keeper], **options)
    spec = case.spec()
    trainer.fit(spec, case.train())
    dist.barrier()
    left = sorted(path.name for path in (folder / "kept").iterdir())
    bad = [] if left == ["epoch=1.ckpt", "last.ckpt"] else [f"left are {left}"]
    bad += differences(dict(spec.model.state_dict()), load_weights(keeper.best_model_path))
    inside = sorted(path.name for path in (folder / "kept" / "last.ckpt").iterdir())
    bad += [] if len(inside) == 2 else [f"the folder holds {inside}"]
    trainer.save_checkpoint(folder / "after.ckpt")
    trainer.save_checkpoint(folder / "after", sharded=True)
    after = parts.read_any(folder / "after.ckpt"), parts.read(folder / "after")
    for content in after:
        del content["unitrain"]["hub"]  # one had been written when the other was
    bad += differences(*after)
    again = UnifiedTrainer("ignite", max_epochs=3, callbacks=[keeper], **options)
    bad += [] if again.fit(case.spec(), case.train(), ckpt_path="last").epoch == 2 else ["did not go on"]
    return {"callback": bad}


# --- refusals and controls --------------------------------------------------------------------------------------------


def asked(spec: TrainSpec | None = None, framework: str = "ignite", **options: Any) -> Any:
    given = {"devices": 2, "strategy": "fsdp", "accelerator": "cpu", "max_epochs": 1, "enable_progress_bar": False}
    made = cases.spec() if spec is None else spec
    before = [type(one) for one in made.model.modules()], list(made.model.parameters())
    try:
        UnifiedTrainer(framework, **{**given, **options}).fit(made, loader())
    except UnitrainError as error:
        after = [type(one) for one in made.model.modules()], list(made.model.parameters())
        same = before[0] == after[0] and all(a is b for a, b in zip(before[1], after[1], strict=True))
        return refusal(error) if same else ["the model was changed"]
    return ["nothing was refused"]


def refusals() -> dict[str, Any]:
    made = cases.spec()
    scalar = cases.spec()
    scalar.model.register_parameter("temperature", nn.Parameter(torch.ones(())))
    return {
        "manual": asked(cases.adversarial()),
        "after a look at the rates": asked(replace(made, optimizer=partial(torch.optim.Adam, lr=-1.0))),
        "made already": asked(replace(made, optimizer=torch.optim.SGD(made.model.parameters(), lr=0.1))),
        "compile": asked(compile=True),
        "batch norm": asked(sync_batchnorm=True),
        "closure": asked(cases.spec(optimizer="lbfgs")),
        "reference": asked(framework="reference"),
        "unknown option": asked(native={"fsdp": {"reshard": True}}),
        "bad option": asked(native={"fsdp": {"reshard_after_forward": 2}}),
        "refused by torch": asked(native={"fsdp": {"shard_placement_fn": lambda _: "nowhere"}}),
        "options of another": asked(native={"ddp": {"bucket_cap_mb": 1}}),
        "wrap": asked(strategy=FSDP(wrap=(nn.LSTM,))),
        "scalar": asked(scalar),
    }


FAULTS: dict[str, tuple[Any, str, Any]] = {
    "gradients stay at home": (Sharded, "synchronize", lambda self, **_: self._root.set_requires_gradient_sync(False)),
    "each micro-batch is exchanged": (Sharded, "synchronize", lambda self, **_: None),
    "weights of rank 1 count": (
        ProcessGroup,
        "broadcast",
        lambda self, tensors: [one.add_(self.rank) for one in tensors],
    ),
}
FILE_FAULTS: dict[str, tuple[Any, str, Any]] = {
    "pending gradients are lost": (program, "gradients", lambda *_: None),
    "optimizer states stay as they are": (snapshot, "_in_parts", lambda path, optimizer, state: {**state, "state": {}}),
    "parts are put together in another order": (
        parts, "_assembled", lambda shape, pieces: torch.cat([one["values"] for one in reversed(pieces)]).reshape(shape),
    ),
}  # fmt: skip


def controls(folder: Path) -> dict[str, list[str]]:
    """Return, for each fault of one line, an error if the comparisons do not notice it on any process."""
    found = {}
    case = together(resume_case("mid-accumulation"))
    whole = record("ignite", case)
    expected = by_hand(3, None, mixed=False)
    for name, (place, method, fault) in {**FAULTS, **FILE_FAULTS}.items():
        with mock.patch.object(place, method, fault):
            if name in FAULTS:
                bad = differences(expected, by_unitrain("ignite", 3, None, mixed=False))
            else:
                write("ignite", case, POSITIONS["mid-accumulation"], folder / "broken", sharded=True)
                bad = goes_on(whole, "lightning", case, folder / "broken")
        noticed: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(noticed, bool(bad))
        found[f"fault: {name}"] = [] if any(noticed) else ["nobody noticed"]
    return found


def section(name: str, folder: Path) -> dict[str, Any]:
    def joined(*found: dict[str, Any]) -> dict[str, Any]:
        return {cell: answer for one in found for cell, answer in one.items()}

    sections = {
        "in place": in_place,
        "quick": lambda: joined(
            oracle(),
            by_parts(),
            in_place(),
            *(in_between(one) for one in FRAMEWORKS),
            *(uneven(one) for one in FRAMEWORKS),
            *(extras(one) for one in FRAMEWORKS),
            *(equal(one) for one in QUICK),
            checkpoints(folder, ["mid-accumulation"], ["32-true"]),
            callback(folder),
            controls(folder),
        ),
        "refusals": refusals,
        "everything": lambda: joined(*(equal(one) for one in ALL if one not in LEFT_OUT)),
        "all checkpoints": without_fast_path(
            lambda: checkpoints(folder, list(POSITIONS), ["32-true", "bf16-mixed", "16-mixed"])
        ),
        "two": lambda: two(folder),
        "four": lambda: joined(
            {
                f"by hand {framework}": differences(
                    by_hand(3, "norm", mixed=True), by_unitrain(framework, 3, "norm", mixed=True)
                )
                for framework in FRAMEWORKS
            },
            *(equal(one) for one in ("tied-adamw-epoch", "accumulate-3")),
            other_number(folder),
        ),
    }
    return sections[name]()


def main(name: str, out: str) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo")
    try:
        found = section(name, Path(out))
    except BaseException:
        traceback.print_exc()
        raise
    Path(out, f"{dist.get_rank()}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
