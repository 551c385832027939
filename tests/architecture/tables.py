"""Writes the tables of the pages from the tables in the code: `make docs`.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; test_tables.py keeps it true.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from dataclasses import fields
from pathlib import Path

import unitrain
from unitrain.backends.features import REQUESTS
from unitrain.backends.protocol import Feature
from unitrain.backends.registry import find_adapter
from unitrain.callbacks import Callback
from unitrain.compat.torchmetrics import NAMED
from unitrain.config import TrainerConfig
from unitrain.loggers.names import MLFLOW
from unitrain.run.events import WHEN
from unitrain.run.hub import Event
from unitrain.run.stopping import REASONS

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # a script has only its own folder on the path

from tests.bench import report, scale_model  # noqa: E402
from tests.matrix import table  # noqa: E402

PAGES = ("README.md", "MIGRATION.md", "docs/reference.md", "docs/versions.md", "docs/benchmarks.md", "docs/scale.md")
BLOCK = re.compile(r"(<!-- table: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def support() -> str:
    adapters = [find_adapter(name) for name in ("lightning", "ignite", "reference")]
    rows = [
        (feature.value, *("yes" if feature in one.features else "refused" for one in adapters)) for feature in Feature
    ]
    return _table(("feature", *(one.name for one in adapters)), rows)


def events() -> str:
    lightning, ignite = find_adapter("lightning"), find_adapter("ignite")
    rows = [(f"`{lightning.events[event]}`", f"`Event.{event.name}`", f"`{ignite.events[event]}`") for event in Event]
    return _table(("Lightning", "unitrain", "Ignite"), rows)


def unmapped(framework: str) -> str:
    adapter = find_adapter(framework)
    return _table(
        (framework.capitalize(), "why no event of ours"), [(f"`{name}`", why) for name, why in adapter.unmapped.items()]
    )


def options() -> str:
    lightning, ignite = find_adapter("lightning"), find_adapter("ignite")

    def cell(adapter, name: str) -> str:
        request = REQUESTS.get(name)
        if request is not None and request.feature not in adapter.features:
            return f"refused: {request.feature.value}"
        native, shared = adapter.options[name]
        return "; ".join(part for part in (native and f"`{native}`", shared) if part)

    names = [field.name for field in fields(TrainerConfig)]
    rows = [(cell(lightning, name), f"`{name}`", cell(ignite, name)) for name in names]
    return _table(("Lightning", "unitrain", "Ignite"), rows)


def matrix() -> str:
    told = json.loads((ROOT / "tests" / "matrix" / "results.json").read_text())
    where = f"\nRun on {told['date']}, Python {told['python']}, torch {told['torch']}, on a CPU.\n"
    return _table(table.HEADER, table.rows(told["cells"])) + where


def bench() -> str:
    found = json.loads((ROOT / "tests" / "bench" / "results.json").read_text())
    works = found["work"]
    names = list(dict.fromkeys(one for work in works.values() for one in work["variants"]))

    def cell(work: str, name: str) -> str:
        numbers = works[work]["variants"].get(name)
        return f"{numbers['wall']['median']:.2f}" if numbers else ""

    rows = [(name, *(cell(work, name) for work in works)) for name in names]
    explained = "; ".join(f"{name}: {work['says']}" for name, work in works.items())
    releases = ", ".join(f"{name} {release}" for name, release in found["releases"].items())
    missed = [
        f"{one['work']} on {one['framework']} against the {one['against']}: {one['reached']:.2f}, wanted {one['limit']:.2f}"
        for one in found["goals"]
        if not one["met"]
    ]
    goals = f"{len(found['goals']) - len(missed)} of {len(found['goals'])} goals are met"
    return (
        _table(("time against the bare loop with metrics", *works), rows)
        + f"\n{explained}.\n\n{goals}{'; not: ' if missed else ''}{'; '.join(missed)}.\n"
        + (f"\n{report.WHERE}:\n\n" + _table(*report.parts(found["profiles"])) if missed else "")
        + f"\nMedians of {found['date']}, {found['machine']}, Python {found['python']}, {releases}.\n"
    )


def bridged() -> str:
    found = json.loads((ROOT / "tests" / "bench" / "results.json").read_text())["bridged"]
    rows = [(one["says"], one["on"], f"{one['reached']:.2f}", f"{one['limit']:.2f}") for one in found]
    return _table(("foreign code", "on", "time against the same at home", "goal"), rows)


def gpu() -> str:
    path = ROOT / "tests" / "bench" / "gpu.json"
    if not path.exists():
        return "No number has been taken on a GPU yet.\n"
    found = json.loads(path.read_text())
    rows = [
        (item["work"], name, f"{row['ratio']:.3f}", f"{1e3 * row['seconds_a_step']:.2f} ms", f"{row['memory']:.3f}")
        for item in found["work"]
        for name, row in item["variants"].items()
    ]
    explained = "; ".join(f"{item['work']}: {item['says']}" for item in found["work"])
    return (
        _table(("", "", "time against the loop by hand", "a step", "peak memory against it"), rows)
        + f"\n{explained}.\n\nMedians of {found['date']} on one {found['device']}, CUDA {found['cuda']}, torch"
        f" {found['torch']}, Python {found['python']}.\n"
    )


def scale() -> str:
    found = json.loads((ROOT / "tests" / "bench" / "scale.json").read_text())
    rows = [
        (
            f"{one['strategy'].upper()}, {one['size']} hosts, {one['rate']}",
            f"{one['payload'] / 1e6:.3f} MB",
            f"{one['counted'] / 1e6:.3f} MB",
            f"{one['counted'] / one['payload'] - 1:+.1%}",
            f"{1e3 * one['predicted']:.0f} ms",
            f"{1e3 * one['seconds']:.0f} ms",
            f"{one['predicted'] / one['seconds'] - 1:+.1%}",
        )
        for one in found["rows"]
    ]
    header = ("", "bytes a step, formula", "counted", "more", "time a step, formula", "measured", "error")
    late = " Latency was not varied: the system has no network emulator (netem)." if found["no_delay"] else ""
    return (
        _table(header, rows)
        + f"\nMeans of {found['date']}, {found['machine']}, torch {found['torch']}, gloo over TCP.{late}\n"
    )


def scale_examples() -> str:
    rows = []
    for hosts in (1, 2, 8, 64):
        cells = [f"{hosts} x 8"]
        for length in (0.2e9, 2e9, 14e9):  # bf16
            fast, slow = (
                1e3 * scale_model.hierarchical(scale_model.cluster(hosts, each), length) for each in (50e9, 3.125e9)
            )
            cells.append(f"{fast:.1f} / {slow:.1f}" if hosts > 1 else f"{fast:.1f}")
        rows.append(tuple(cells))
    return _table(("hosts x GPUs", "0.1 G parameters", "1 G", "7 G"), rows)


def _results() -> dict:
    return json.loads((ROOT / "tests" / "bench" / "results.json").read_text())


def studies() -> str:
    return _goals(_results()["tuning"])


def services() -> str:
    return _goals(_results()["serving"])


def monitored() -> str:
    return _goals(_results()["monitoring"])


def around() -> str:
    found = _results()["around"]
    rows = [
        (
            one["work"],
            one["on"],
            one["against"],
            f"{one['reached']:.2f}",
            "" if one["cpu"] is None else f"{one['cpu']:.2f}",
            "" if one["limit"] is None else f"≤ {one['limit']:g}",
            {None: "", True: "yes", False: "no"}[one["met"]],
        )
        for one in found["rows"]
    ]
    header = ("", "by", "against", "ratio", "processor time", "goal", "met")
    return _table(header, rows) + f"\nMeasured on {found['date']}, {found['machine']}, Python {found['python']}.\n"


def _goals(found: list[dict]) -> str:
    rows = [
        (one["work"], one["on"], f"{one['reached']:.2f}", f"≤ {one['limit']:g}", "yes" if one["met"] else "no")
        for one in found
    ]
    return _table(("", "", "reached", "goal", "met"), rows)


_SERVERS = {
    "unitrain": "unitrain",
    "fastapi": "FastAPI + pydantic",
    "litserve": "LitServe",
    "echo": "an echo (bare ASGI)",
}


def servers() -> str:
    rows = []
    for one in _results()["servers"]:
        small = (f"{one['one row, us']:.0f} µs", f"{one['one client, p50 ms']:.2f} ms")
        binary = f" ({one['32 rows, binary, us']:.0f} in binary)" if "32 rows, binary, us" in one else ""
        large = (f"{one['32 rows, us']:.0f} µs{binary}", f"{one['start, s']:.1f} s", f"{one['memory, MiB']:.0f} MiB")
        rows.append((_SERVERS[one["server"]], *small, *large))
    header = ("", "CPU of a request", "one client waits", "CPU, 32 rows", "start", "memory")
    return _table(header, rows)


def _described(docstring: str) -> dict[str, str]:
    """Return what a docstring says of each attribute."""
    section = inspect.cleandoc(docstring.partition("Attributes:")[2].partition("Raises:")[0])
    found = re.findall(r"^(\w+): (.*(?:\n +.*)*)", section, re.MULTILINE)
    return {name: _page(text) for name, text in found}


def _page(text: str) -> str:
    return " ".join(text.split()).replace("``", "`")


def all_options() -> str:
    told = _described(TrainerConfig.__doc__)
    rows = [(f"`{one.name}`", f"`{one.default!r}`", told[one.name]) for one in fields(TrainerConfig)]
    return _table(("option", "default", "what it does"), rows)


def _value(default: object) -> str:
    return f"Event.{default.name}" if isinstance(default, Event) else repr(default)


class _Default(str):
    __slots__ = ()
    __repr__ = str.__str__


def _call(cls: type) -> str:
    """Return the signature of ``cls`` without annotations, with ``*`` before what is given by keyword only."""
    bare = inspect.Parameter.empty
    parameters = [
        one.replace(annotation=bare, default=bare if one.default is bare else _Default(_value(one.default)))
        for one in inspect.signature(cls).parameters.values()
    ]
    return str(inspect.Signature(parameters))


def _public(wanted) -> str:
    """Return a table of the public classes that ``wanted`` accepts: how each is made, and the first line about it."""
    rows = []
    for name in unitrain.__all__:
        cls = getattr(unitrain, name)
        if inspect.isclass(cls) and wanted(cls):
            rows.append((f"`{name}{_call(cls)}`", _page(inspect.getdoc(cls).split("\n\n")[0])))
    return _table(("class", "what it does"), rows)


def others() -> str:
    """Return a table of the public names that no other table of docs/reference.md has."""
    rows = []
    for name in unitrain.__all__:
        thing = getattr(unitrain, name)
        is_listed = inspect.isclass(thing) and (_is_callback(thing) or _is_tracker(thing))
        if callable(thing) and not is_listed:
            rows.append((f"`{name}`", _page(inspect.getdoc(thing).split("\n\n")[0])))
    return _table(("name", "what it is"), rows)


def _is_callback(cls) -> bool:
    return issubclass(cls, Callback) and cls is not Callback


def _is_tracker(cls) -> bool:
    return cls.__module__.startswith("unitrain.loggers")


def all_events() -> str:
    return _table(("event", "when"), [(f"`Event.{event.name}`", WHEN[event]) for event in Event])


def metrics() -> str:
    return _table(("name", "class of torchmetrics"), [(f"`{name}`", f"`{cls}`") for name, cls in sorted(NAMED.items())])


def mlflow_names() -> str:
    return _table(
        ("character", "stored as"), [*((f"`{a}`", f"`{b}`") for a, b in MLFLOW.items()), ("any other", "`_`")]
    )


TABLES = {
    "all-options": all_options,
    "callbacks": lambda: _public(_is_callback),
    "all-events": all_events,
    "metrics": metrics,
    "trackers": lambda: _public(_is_tracker),
    "others": others,
    "mlflow-names": mlflow_names,
    "reasons": lambda: _table(("`stopped_by`", "why"), [(f"`{name}`", why) for name, why in REASONS.items()]),
    "bench": bench,
    "bridged": bridged,
    "gpu": gpu,
    "scale": scale,
    "scale-examples": scale_examples,
    "studies": studies,
    "services": services,
    "monitored": monitored,
    "servers": servers,
    "around": around,
    "matrix": matrix,
    "support": support,
    "events": events,
    "unmapped-lightning": lambda: unmapped("lightning"),
    "unmapped-ignite": lambda: unmapped("ignite"),
    "options": options,
}


def rendered(page: str) -> str:
    """Return the text of ``page`` with its tables as the code has them."""
    return BLOCK.sub(lambda found: found[1] + TABLES[found["name"]]() + found[3], page)


if __name__ == "__main__":
    for name in PAGES:
        path = ROOT / name
        path.write_text(rendered(path.read_text()))
