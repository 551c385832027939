"""No module reaches itself by imports; those in functions and under ``TYPE_CHECKING``, which import-linter skips, count."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def modules(folder, packages):
    """Return the files of ``packages`` in ``folder`` by the name that they are imported by."""
    files = [path for package in packages for path in (folder / package).rglob("*.py")]
    return {".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def house():
    ours = modules(ROOT, ["unitrain"])
    return ours | modules(ROOT / "adapters", [path.name for path in (ROOT / "adapters").iterdir() if path.is_dir()])


def named(node):
    """Yield what an import may mean, the longer name first."""
    if isinstance(node, ast.Import):
        yield from ((alias.name,) for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        assert not node.level, "imports are absolute here"
        yield from ((f"{node.module}.{alias.name}", node.module) for alias in node.names)


def imports(files):
    """Return the modules that each module imports."""
    found = {}
    for module, path in files.items():
        targets = (name for node in ast.walk(ast.parse(path.read_text())) for name in named(node))
        known = (next((one for one in target if one in files), None) for target in targets)
        found[module] = {one for one in known if one is not None} - {module}
    return found


def reached(graph, start):
    seen, ahead = set(), [start]
    while ahead:
        fresh = graph[ahead.pop()] - seen
        seen |= fresh
        ahead += fresh
    return seen


def cycles(graph):
    """Return the strongly connected components that have an import: the sets of modules that all reach one another."""
    ends = {module: reached(graph, module) for module in graph}
    components = {frozenset(one for one in ends[module] if module in ends[one]) for module in graph}
    return sorted(sorted(one) for one in components if one)


def test_no_module_reaches_itself():
    graph = imports(house())
    assert len(graph) > 300
    assert sum(map(len, graph.values())) > 1000
    assert not cycles(graph)


PLANTED = {
    "at run time": "import room.lower",
    "in a function": "def work():\n    from room.lower import tool",
    "in an annotation only": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from room import lower",
}


@pytest.mark.parametrize("source", PLANTED.values(), ids=PLANTED)
def test_a_planted_cycle_is_found(tmp_path, source):
    files = {
        "__init__": "",
        "upper": "from room.lower import tool",
        "lower": "from room.base import tool",
        "base": source,
    }
    room = tmp_path / "room"
    room.mkdir()
    for name, text in files.items():
        (room / f"{name}.py").write_text(text)
    graph = imports(modules(tmp_path, ["room"]))
    assert cycles(graph) == [["room.base", "room.lower"]]
    (room / "base.py").write_text("")
    assert not cycles(imports(modules(tmp_path, ["room"])))


def test_a_module_that_imports_its_package_is_no_cycle_by_itself(tmp_path):
    room = tmp_path / "room"
    room.mkdir()
    (room / "__init__.py").write_text("")
    (room / "upper.py").write_text("import room")
    files = modules(tmp_path, ["room"])
    assert not cycles(imports(files))
    (room / "__init__.py").write_text("from room.upper import tool")
    assert cycles(imports(files)) == [["room", "room.upper"]]
