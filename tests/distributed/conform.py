"""Run by torchrun on each process: trains cases on each backend and compares every bit with the bare loop's.

``torchrun --nproc-per-node 2 conform.py SECTION FOLDER`` writes ``FOLDER/<rank>.json``: for each cell how it differs
(an empty list: not at all), or what was refused.
"""

from __future__ import annotations

import faulthandler
import importlib.util
import json
import sys
import warnings
from dataclasses import replace
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist
from torch import nn

from unitrain import DDP, ConfigError, Event, UnifiedTrainer
from unitrain.checkpoint import io
from unitrain.data.sharding import OwnBatches, ShardedBatches
from unitrain.errors import UnitrainError
from unitrain.testing import cases, cases_loaders
from unitrain.testing.conformance import ALL, TABLES, trains
from unitrain.testing.models import loader
from unitrain.testing.trace import SEED, Case, differences, record

FRAMEWORKS = ("reference", "lightning", "ignite")
HERE = Path(__file__).parent
EPOCH = 3
"""Batches of an epoch for each of two processes."""


def together(case: Case) -> Case:
    return replace(case, options={**case.options, "devices": dist.get_world_size(), "strategy": "ddp"})


def traced(framework: str, case: Case) -> Any:
    """Return the trace of a case, or the refusal."""
    try:
        return record(framework, together(case))
    except UnitrainError as error:
        return f"refused: {type(error).__name__}: {error}".partition("\nHint")[0]


def equal(case: Case) -> dict[str, Any]:
    """Return how each backend's trace differs from the bare loop's."""
    expected = traced("reference", case)
    if not isinstance(expected, str) and not trains(expected) and case.name != "stop-fit_start":
        return {case.name: ["nothing was trained"]}
    found = {}
    for framework in FRAMEWORKS[1:]:
        got = traced(framework, case)
        refused = isinstance(expected, str) and got == expected
        found[f"{case.name} {framework}"] = expected if refused else differences(expected, got)
    return found


class PartlyUsed(nn.Module):
    """A model of which a part gets no gradient, another one in each batch."""

    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(36, 5) for _ in range(3))
        self.calls = 0

    def forward(self, inputs):
        self.calls += 1
        return self.heads[self.calls % 2](inputs)


def by_parts(framework: str) -> Any:
    """Train by a step that uses parts of the model, which a wrapper around it would hide."""
    torch.manual_seed(SEED)
    spec = cases.spec(training_step=lambda model, batch: model[1:](model[0](batch[0])).square().mean())
    options = {"devices": 2, "strategy": "ddp", "max_epochs": 1, "seed": 0, "enable_progress_bar": False}
    UnifiedTrainer(framework, **options).fit(spec, loader())
    everybody: list[Any] = [None, None]
    dist.all_gather_object(everybody, spec.model.state_dict())
    assert not differences(*everybody), "the weights of the processes fell apart"
    return everybody[0]


DEALT = {
    "dealt-list": Case(name="dealt-list", spec=cases.spec, train=lambda: ShardedBatches(cases.DATA["list"]())),
    "dealt-stream": Case(name="dealt-stream", spec=cases.spec, train=lambda: ShardedBatches(cases.DATA["stream"]())),
    "own-list": Case(
        name="own-list",
        spec=cases.spec,
        train=lambda: OwnBatches(cases.DATA["list"]()[dist.get_rank() :: 2]),
        val=lambda: ShardedBatches(cases.DATA["list"]()),
    ),
    "uneven": Case(
        name="uneven", spec=partial(cases.spec, "cnn"), train=loader, val=partial(loader, shuffle=True, samples=11)
    ),
    "uneven-samples": Case(
        name="uneven-samples",
        spec=partial(cases.spec, "cnn"),
        train=partial(loader, samples=21),
        val=partial(loader, shuffle=False, samples=3),
        options={"accumulate_grad_batches": 3, "precision": "bf16-mixed"},
    ),
    "several": Case(
        name="several",
        spec=cases.spec,
        train=loader,
        val=lambda: {"odd": loader(shuffle=True, samples=11), "dealt": ShardedBatches(cases.DATA["list"]())},
    ),
    "combined": Case(
        name="combined",
        spec=partial(cases.spec, training_step=cases_loaders.side_by_side_step, batch_size=cases_loaders.samples_of),
        train=lambda: {"long": loader(), "short": loader(samples=10)},
        val=loader,
        options={"num_sanity_val_steps": 2},
    ),
    "reloaded": next(case for case in cases_loaders.loader_cases() if case.name == "reloaded"),
    "workers": Case(name="workers", spec=cases.spec, train=cases.DATA["noisy-workers"], val=cases.DATA["noisy"]),
    "unused": Case(
        name="unused",
        spec=lambda: replace(cases.spec(), model=PartlyUsed()),
        train=loader,
        options={"native": {"ddp": {"find_unused_parameters": True}}},
    ),
}
AVERAGED_AND_FROZEN = ["swa", "swa-cut-short", "freeze", "unfreeze"]
QUICK = ["noisy", "mlp-sgd-plateau", "cnn-adamw-step", "transformer-groups-epoch", "tied-adamw-plateau"]


def stops(framework: str, asked_by: int, ask: Any) -> list[Any]:
    """Return what every rank saw of a run that one rank asks to stop in the middle of an epoch."""
    torch.manual_seed(SEED)
    options = {"devices": 2, "strategy": "ddp", "max_epochs": 3, "seed": 0, "enable_progress_bar": False}
    trainer = UnifiedTrainer(framework, **options)
    tape: list[str] = []
    for event in Event:
        trainer.on(event, lambda event=event: tape.append(event.value))
    trainer.on(Event.BATCH_START(once=5), lambda run: ask(run) if run.rank == asked_by else None)
    result = trainer.fit(cases.spec(), loader(), loader(samples=11))
    return [tape, result.stopped_by, result.step]


def one_rank_stops_all() -> dict[str, list[str]]:
    found = {}
    expected = None
    for framework in FRAMEWORKS:
        for rank in (0, 1):
            seen = stops(framework, rank, lambda run: run.stop())
            everybody: list[Any] = [None, None]
            dist.all_gather_object(everybody, [seen[1], seen[2], len([one for one in seen[0] if one == "batch_end"])])
            expected = expected or everybody[0]
            good = everybody == [expected, expected] and expected == ["user", 5, 5]
            found[f"stop {framework} {rank}"] = [] if good else [repr(everybody)]
    return found


def other_limits() -> dict[str, list[str]]:
    """A process has joined the others by now; other time limits would do nothing, and are refused."""
    strategy = DDP(timeout=timedelta(minutes=7))
    trainer = UnifiedTrainer("ignite", devices=2, strategy=strategy, max_epochs=1, enable_progress_bar=False)
    try:
        trainer.fit(cases.spec(), loader())
    except ConfigError as error:
        return {"other limits": [] if "process group already exists" in str(error) else [str(error)]}
    return {"other limits": ["not refused"]}


def talk() -> dict[str, list[str]]:
    """Use what ``run`` offers for talking to the other processes."""
    found = {}
    for framework in FRAMEWORKS:
        said: list[Any] = []
        options = {"devices": 2, "strategy": "ddp", "max_epochs": 1, "seed": 0, "enable_progress_bar": False}
        trainer = UnifiedTrainer(framework, **options)

        @trainer.on(Event.EPOCH_END)
        def speak(run, said=said):
            run.barrier()
            own = torch.tensor([float(run.rank), 4.0])
            said.append(run.all_gather(own).tolist())
            said.append([run.all_reduce(float(run.rank), op) for op in ("mean", "sum", "max", "min")])
            said.append(run.all_reduce(own).tolist())
            said.append([run.rank, run.world_size])
            run.rank_zero_only(said.append)("zero")

        trainer.fit(cases.spec(), loader())
        expected = [[[0.0, 4.0], [1.0, 4.0]], [0.5, 1.0, 1.0, 0.0], [0.5, 4.0], [dist.get_rank(), 2]]
        expected += ["zero"] if dist.get_rank() == 0 else []
        found[f"talk {framework}"] = [] if said == expected else [repr(said)]
    return found


def evaluations() -> dict[str, list[str]]:
    """Validate, test and predict: the same on all backends, and on one process but for the order of additions."""
    found = {}
    expected: Any = None
    for framework in FRAMEWORKS:
        torch.manual_seed(3 + dist.get_rank())  # rank 0's weights are everybody's
        spec = cases.spec("cnn")
        trainer = UnifiedTrainer(framework, devices=2, strategy="ddp", enable_progress_bar=False)
        data = loader(shuffle=False, samples=11)
        got = [trainer.validate(spec, data), trainer.test(spec, data), trainer.predict(spec, data)]
        several = trainer.predict(spec, {"odd": data, "even": loader(shuffle=False, samples=8)})
        got += [several, trainer.validate(spec, {"odd": data})]
        expected = expected or got
        alone = [*torch.cat(got[2])]
        assert [len(torch.cat(one)) for one in several.values()] == [11, 8]
        assert {name.replace("odd/", ""): value for name, value in got[4].items()} == got[0]
        bad = differences(expected, got) + ([] if len(alone) == 11 else [f"{len(alone)} predictions"])
        found[f"evaluations {framework}"] = bad
    return found


@cache
def resume() -> Any:
    """Return the way of the resume tests."""
    return module("resume", HERE.parent / "checkpoint" / "test_resume.py")


def module(name: str, path: Path) -> Any:
    found = importlib.util.spec_from_file_location(name, path)
    assert found is not None
    assert found.loader is not None
    made = importlib.util.module_from_spec(found)
    sys.modules[name] = made
    found.loader.exec_module(made)
    return made


POSITIONS = {"epoch boundary": EPOCH, "mid-epoch": EPOCH + 1, "mid-accumulation": EPOCH + 2}


def resume_case(position: str, precision: str, workers: int) -> Case:
    made = partial(cases.spec, "cnn", "adamw", "step")
    options = {"accumulate_grad_batches": 3} if "accumulation" in position else {}
    train = cases.DATA["noisy-workers"] if workers else loader
    val = partial(loader, samples=11)
    case = Case(name=position, spec=made, train=train, val=val, options={**options, "precision": precision})
    return together(case)


def resumes(folder: Path, cells: list[tuple[str, str, int]], pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    found = {}
    for position, precision, workers in cells:
        case = resume_case(position, precision, workers)
        whole = record("reference", case)
        for writer in dict.fromkeys(writer for writer, _ in pairs):
            resume().written(writer, case, POSITIONS[position], folder / f"{writer}.ckpt")
        for writer, reader in pairs:
            name = f"{position}, {precision}, workers {workers}: {writer} to {reader}"
            try:
                resume().assert_goes_on(whole, resume().resumed(reader, case, folder / f"{writer}.ckpt"))
                found[name] = []
            except AssertionError as error:
                found[name] = [str(error)]
    return found


def validation_order(folder: Path) -> dict[str, list[str]]:
    """A run that goes on validates in the order in which it did, whatever its own seed is."""
    found = {}
    for framework in FRAMEWORKS:
        seen: list[torch.Tensor] = []

        def step(model, batch, seen=seen):
            seen.append(batch[0])
            return model(batch[0]), batch[1]

        def train(seed, epochs, framework=framework, step=step, **more):
            spec = replace(cases.spec("mlp"), metrics=None, validation_step=step)
            options = {"devices": 2, "strategy": "ddp", "seed": seed, "enable_progress_bar": False}
            trainer = UnifiedTrainer(framework, max_epochs=epochs, **options)
            trainer.fit(spec, loader(), loader(samples=11), **more)
            return trainer

        path = folder / f"{framework}-order.ckpt"
        train(SEED, 1).save_checkpoint(path)
        train(SEED + 1, 2, ckpt_path=path)
        found[f"validation order {framework}"] = differences(seen[: len(seen) // 2], seen[len(seen) // 2 :])
        torch.manual_seed(0)
    return found


def other_number(folder: Path) -> dict[str, list[str]]:
    """Go on with a file of one process on two: the same weights and optimizer, and the same bits on all backends."""
    found = {}
    case = resume_case("mid-accumulation", "32-true", 0)
    path = folder / "alone.ckpt"  # written by the test
    content, rest = io.read(path), []
    for framework in FRAMEWORKS:
        torch.manual_seed(999)
        spec = case.spec()
        options = {"max_epochs": 3, "seed": SEED, "enable_progress_bar": False, **case.options}
        trainer = UnifiedTrainer(framework, **options)
        seen: dict[str, Any] = {}

        @trainer.on(Event.BATCH_START(event_filter=lambda run, count, seen=seen: not seen))
        def look(run, seen=seen):
            seen |= {"weights": {name: value.clone() for name, value in run.model.state_dict().items()}}
            seen |= {"moments": [one["exp_avg"].clone() for one in run.optimizers["optimizer"].state.values()]}
            seen |= {"step": run.state.step}

        result = trainer.fit(spec, case.train(), case.val(), ckpt_path=path)
        own = {name.removeprefix("model."): value for name, value in content["state_dict"].items()}
        moments = [one["exp_avg"] for one in content["optimizer_states"][0]["state"].values()]
        expected = {"weights": own, "moments": moments, "step": content["unitrain"]["hub"]["step"]}
        rest.append([spec.model.state_dict(), result.metrics])
        found[f"1 to 2 {framework}"] = differences(expected, seen) + differences(rest[0], rest[-1])
    return found


COMPILED = Case(name="compiled", spec=cases.spec, train=loader, val=loader, options={"compile": True, "max_epochs": 1})


def native(folder: Path) -> dict[str, list[str]]:
    """Native callbacks work on several processes, on their own backend, and change nothing."""
    import pytorch_lightning as pl
    from ignite.engine import Events
    from ignite.handlers import Checkpoint, DiskSaver

    expected = traced("reference", replace(COMPILED, options={"max_epochs": 2}))
    stopping = pl.callbacks.EarlyStopping("val/loss", patience=9)
    keeping = pl.callbacks.ModelCheckpoint(folder / "pl", monitor="val/loss", save_top_k=1)
    options = {"max_epochs": 2, "callbacks": [stopping, keeping]}
    found = {"lightning": differences(expected, traced("lightning", replace(COMPILED, options=options)))}
    if dist.get_rank() == 0 and len([*(folder / "pl").glob("*.ckpt")]) != 1:
        found["lightning"].append("ModelCheckpoint wrote no file")

    def save_by_ignite(trainer: UnifiedTrainer) -> None:
        saver = DiskSaver(str(folder / "ignite"), require_empty=False)
        engine = trainer.create_trainer()

        @trainer.on(Event.FIT_START)
        def attach(run):
            engine.add_event_handler(Events.EPOCH_COMPLETED, Checkpoint({"model": run.model}, saver, n_saved=1))

    case = replace(COMPILED, options={"max_epochs": 2}, act=save_by_ignite)
    found["ignite"] = differences(expected, traced("ignite", case))
    if dist.get_rank() == 0 and len([*(folder / "ignite").glob("*.pt")]) != 1:
        found["ignite"].append("Checkpoint wrote no file")
    return {f"native {framework}": bad for framework, bad in found.items()}


def tables(names: list[str]) -> dict[str, Any]:
    return {cell: answer for name in names for cell, answer in equal(ALL[name]).items()}


def dealt() -> dict[str, Any]:
    return {cell: answer for case in DEALT.values() for cell, answer in equal(case).items()}


GRID = [(position, precision, workers) for position in POSITIONS for precision in ("32-true", "bf16-mixed", "16-mixed")
        for workers in (0, 2)]  # fmt: skip
PAIRS = [(writer, reader) for writer in FRAMEWORKS for reader in FRAMEWORKS]
ACROSS = [("reference", "lightning"), ("lightning", "ignite"), ("ignite", "reference")]


def section(name: str, folder: Path) -> dict[str, Any]:
    by_hand = module("by_hand", HERE / "by_hand.py")
    sections = {
        "quick": lambda: (
            tables(
                [
                    *QUICK,
                    *AVERAGED_AND_FROZEN,
                    *(case.name for table in ("steps", "handlers") for case in TABLES[table]),
                ]
            )
            | dealt()
            | one_rank_stops_all()
            | talk()
            | other_limits()
            | {"by parts": differences(by_parts("lightning"), by_parts("ignite"))}
            | evaluations()
        ),
        "by hand": lambda: (
            by_hand.oracle(FRAMEWORKS)
            | by_hand.controls("ignite")
            | by_hand.controls("lightning")
            | by_hand.stop_control("lightning")
        ),
        "resume": lambda: (
            resumes(folder, [("mid-accumulation", "32-true", 0), ("mid-epoch", "16-mixed", 2)], ACROSS)
            | other_number(folder)
            | validation_order(folder)
            | native(folder)
        ),
        "compiled": lambda: equal(COMPILED),
        "resume-all": lambda: resumes(folder, GRID, PAIRS),
        "everything": lambda: tables(list(ALL)),
        "four": lambda: tables([*QUICK, "accumulate-3"]) | equal(DEALT["uneven"]),
    }
    return sections[name]()


def main(name: str, out: str) -> None:
    faulthandler.dump_traceback_later(240)  # should it hang, the test says where
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo")
    found = section(name, Path(out))
    Path(out, f"{dist.get_rank()}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
