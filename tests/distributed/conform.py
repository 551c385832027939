"""Run by torchrun on each process: trains cases on each backend and compares every bit with the bare loop's."""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import torch
from torch import distributed as dist

from unitrain.testing.conformance import ALL, TABLES, trains
from unitrain.testing.trace import differences, record

FRAMEWORKS = ("lightning", "ignite")


def compared(name: str) -> dict[str, list[str]]:
    """Return how each backend's trace of a case differs on this rank."""
    case = ALL[name]
    case = replace(case, options={**case.options, "devices": dist.get_world_size(), "strategy": "ddp"})
    try:
        expected = record("reference", case)
    except Exception as error:  # noqa: BLE001 - an answer too
        return {f"{name} reference": [f"{type(error).__name__}: {error}"]}
    if not trains(expected) and name != "stop-fit_start":
        return {name: ["nothing was trained"]}
    found = {}
    for framework in FRAMEWORKS:
        try:
            found[f"{name} {framework}"] = differences(expected, record(framework, case))
        except Exception as error:  # noqa: BLE001 - an answer too
            found[f"{name} {framework}"] = [f"{type(error).__name__}: {error}"]
    return found


def main(table: str, out: str) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    names = [case.name for case in TABLES[table]]
    dist.init_process_group("gloo")
    found: dict[str, list[str]] = {}
    for name in names:
        found |= compared(name)
    Path(out, f"{dist.get_rank()}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
