"""Runs the examples and writes a page for each: what it shows, what it prints, its picture, its code.

Each example runs in a process and a folder of its own, as a newcomer starts it. Its output is kept in ``.site/gallery``
under a hash of the program, its arguments and the releases, so that a second build runs nothing.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from docs._ext.pages import FILES, ROOT, write

NAME = "gallery/index"
EXAMPLES = ROOT / "examples"
TIMEOUT = 600
"""Seconds after which an example has failed."""


class Example(NamedTuple):
    """An example of the gallery.

    Attributes:
        title: The title of its page.
        arguments: What it is run with; they keep the build short.
        left_out: Why a build does not run it; tests do.
    """

    title: str
    arguments: tuple[str, ...] = ()
    left_out: str = ""


GALLERY = {
    "quickstart": Example("Quickstart", ("--epochs", "5")),
    "tabular_regression": Example("Regression on a table"),
    "gan_digits": Example("A GAN that draws digits", ("--epochs", "30")),
    "char_lm": Example("A language model", ("--epochs", "2")),
    "resume_elsewhere": Example("Resume on the other engine"),
    "two_processes": Example("Two processes"),
    "tune_digits": Example("A study of hyper-parameters", ("--trials", "6")),
    "tune_own_optuna": Example("Your own Optuna code", ("--trials", "5")),
    "serve_digits": Example("Serve a model"),
    "deploy_digits": Example("Deploy a model"),
    "tune_redis": Example(
        "A study on Redis", left_out="It starts a Redis server and kills a worker, which takes minutes on one core."
    ),
    "monitor_digits": Example("Watch a run in Prometheus", left_out="It starts Prometheus on fixed ports."),
}
"""The examples in the order of the gallery."""

_PINNED = ("torch", "pytorch-lightning", "pytorch-ignite", "pytorch-unitrain")


class Output(NamedTuple):
    """What running an example gave.

    Attributes:
        text: What it printed to the standard output.
        cpu_seconds: The CPU time that it took, which does not depend on what else the machine does.
        pictures: Files that it wrote.
    """

    text: str
    cpu_seconds: float
    pictures: list[Path]


def names() -> list[str]:
    """Return the names of all examples, in the order of the gallery.

    Raises:
        LookupError: If an example has no place in the gallery.
    """
    there = {path.stem for path in EXAMPLES.glob("*.py")}
    if there != GALLERY.keys():
        raise LookupError(f"docs/_ext/gallery.py: each example has a row in GALLERY; look at {there ^ GALLERY.keys()}")
    return list(GALLERY)


def copy(target: Path, cache: Path, wanted: set[str] | None) -> list[str]:
    """Run the examples, write their pages to ``target``, and return the names of the pages.

    Args:
        target: The folder of the pages.
        cache: The folder of what earlier builds printed.
        wanted: Names of the examples to run; None means all. An output in the cache is shown in any case.
    """
    outputs = {name: output(name, cache, wanted) for name in names()}
    for name, one in outputs.items():
        write(target / f"gallery/{name}.md", _page(name, one))
        for picture in one.pictures if one else []:
            place = target / FILES / "gallery" / name
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy2(picture, place / picture.name)
    write(target / f"{NAME}.md", _index(outputs))
    return [NAME, *(f"gallery/{name}" for name in outputs)]


def key(name: str) -> str:
    """Return the hash of all that the output of an example depends on, but for the sources of unitrain."""
    releases = {package: version(package) for package in _PINNED}
    text = json.dumps(
        [(EXAMPLES / f"{name}.py").read_text(encoding="utf-8"), GALLERY[name].arguments, releases, "CPU time"]
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def output(name: str, cache: Path, wanted: set[str] | None) -> Output | None:
    """Return what an example prints, from the cache if it is there; None if it is not to be run."""
    if GALLERY[name].left_out:
        return None
    kept = cache / f"{name}-{key(name)}"
    if not kept.exists():
        if wanted is not None and name not in wanted:
            return None
        _run(name, kept)
    told = json.loads((kept / "output.json").read_text(encoding="utf-8"))
    return Output(told["text"], told["cpu_seconds"], sorted(kept.glob("*.png")))


def _run(name: str, kept: Path) -> None:
    """Run an example and keep its output and pictures.

    Raises:
        RuntimeError: If it fails.
    """
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *GALLERY[name].arguments]
    paths = [str(ROOT), str(ROOT / "adapters"), *filter(None, [os.environ.get("PYTHONPATH")])]
    given = {
        "PYTHONPATH": os.pathsep.join(paths),
        "COLUMNS": "100",
        "OMP_NUM_THREADS": "1",
        "PYTHONIOENCODING": "utf-8",
    }
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        start = _cpu_seconds()
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **given},
            capture_output=True,
            encoding="utf-8",
            timeout=TIMEOUT,
            check=False,
        )
        seconds = _cpu_seconds() - start
        if done.returncode != 0:
            raise RuntimeError(f"examples/{name}.py ended with status {done.returncode}:\n{done.stderr}")
        beside = kept.with_suffix(".part")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        for picture in folder.glob("*.png"):
            shutil.copy2(picture, beside)
    text = done.stdout.replace(f"{place}/", "")
    told = json.dumps({"text": text, "cpu_seconds": seconds})
    (beside / "output.json").write_text(told, encoding="utf-8")
    beside.rename(kept)


def _cpu_seconds() -> float:
    """Return the CPU time of all processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _told(name: str) -> tuple[str, str, str]:
    """Return the first line of the docstring of an example, the rest of it, and the program without it."""
    code = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    tree = ast.parse(code)
    first, _, rest = (ast.get_docstring(tree) or "").partition("\n")
    after = "\n".join(code.splitlines()[tree.body[0].end_lineno :])
    return first, rest.strip(), after.strip()


def _page(name: str, one: Output | None) -> str:
    first, rest, code = _told(name)
    example = GALLERY[name]
    if one is not None:
        line = " ".join(["python", f"examples/{name}.py", *example.arguments])
        pictures = "".join(f"\n![{example.title}]({_picture(name, path)})\n" for path in one.pictures)
        took = f"It took {one.cpu_seconds:.0f} seconds of CPU time when this page was built."
        shown = f"```console\n$ {line}\n{one.text.rstrip()}\n```\n\n{took}\n{pictures}"
    else:
        shown = f"It was not run for this page. {example.left_out}".rstrip() + "\n"
    return (
        f"# {example.title}\n\n{first}\n\n{rest}\n\n## What it prints\n\n{shown}\n"
        f"## The program\n\n`examples/{name}.py`:\n\n```python\n{code}\n```\n"
    )


def _picture(name: str, path: Path) -> str:
    return f"../{FILES}/gallery/{name}/{path.name}"


def _index(outputs: dict[str, Output | None]) -> str:
    cards = "\n".join(_card(name, one) for name, one in outputs.items() if not GALLERY[name].left_out)
    rows = "".join(
        f"| [{one.title}]({name}.md) | {_told(name)[0]} | {one.left_out} |\n"
        for name, one in GALLERY.items()
        if one.left_out
    )
    return (
        "# Examples\n\nComplete programs on real data; nothing is downloaded. Each prints the same numbers on "
        f"Lightning and on Ignite.\n\n`````{{container}} gallery\n\n{cards}\n`````\n\n"
        "## Not run for these pages\n\nThe tests run them; a build of these pages does not.\n\n"
        f"| example | what it shows | why it is not run |\n| --- | --- | --- |\n{rows}\n"
        "The projects in `examples/migrate` are walked through in [Migration](../migration.md), and the dashboards in "
        "`examples/monitoring` are described in [Monitoring](../monitoring.md).\n\n"
        "```{toctree}\n:hidden:\n\n" + "\n".join(outputs) + "\n```\n"
    )


def _card(name: str, one: Output | None) -> str:
    title = GALLERY[name].title
    shown = "".join(f"![{title}]({_picture(name, path)})\n\n" for path in (one.pictures if one else [])[:1])
    return f"````{{container}} card\n\n{shown}**[{title}]({name}.md)**\n\n{_told(name)[0]}\n\n````\n"
