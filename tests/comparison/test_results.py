"""What is shown of a comparison, and written."""

import copy
import json
import math
import pickle
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from safetensors.torch import load_file

from tests.comparison import programs
from unitrain import Comparison, compare
from unitrain.errors import ConfigError
from unitrain.testing.comparison import launch
from unitrain.testing.comparison.difference import Difference
from unitrain.testing.comparison.outcome import Side
from unitrain.testing.comparison.side import run_side


@pytest.fixture(scope="module")
def different():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "in_process", lambda program, orders: run_side(program, orders, lambda _: None))
        return compare(programs.make, programs.faulty_gradient)


@pytest.fixture(scope="module")
def failed():
    sides = (
        Side(name="<script>alert(1)</script>", steps=3),
        Side(name="b", status="failed", error="<b>no</b>", steps=2),
    )
    return Comparison(sides=sides, steps=2, notes=("<i>note</i>",))


def test_the_text_fits_a_terminal(different, failed):
    for result in (different, failed):
        lines = str(result).splitlines()
        assert max(map(len, lines)) <= 80
    told = " ".join(str(different).split())
    assert told.startswith("different: faulty_gradient differs from make; 3 steps are equal")
    assert "step 4, epoch 1, batch 8, gradient" in told
    assert "4.weight[1, 2], float32 (5, 12)" in told
    assert all(
        f"{value} {bits}" in told
        for value, bits in zip(different.difference.values, different.difference.bits, strict=True)
    )
    assert "1 ulp; 1 of 60 elements differ, at most 1 ulp" in told


def test_an_error_of_several_sides_is_told_once():
    sides = [Side(name=name, status="failed", error="no data", steps=0) for name in "abc"]
    told = str(Comparison(sides=tuple(sides), steps=0))
    assert told.startswith("failed: a, b and c could not run to the end; 0 steps are equal\n")
    assert told.count("no data") == told.count("a, b and c failed: no data") == 1


def test_the_json_has_what_the_result_has(different, tmp_path):
    path = tmp_path / "out.json"
    different.save_json(path)
    found = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert found == different.as_dict()
    assert (found["schema"], found["status"], found["equal"], found["steps"]) == (1, "different", False, 3)
    assert found["difference"]["bits"] == list(different.difference.bits)
    assert found["difference"] == found["differences"][0]
    assert [one["steps"] for one in found["sides"]] == [6, 4]
    assert found["sides"][0]["loss"][0][0] == 1
    assert len(found["sides"][0]["history"]) == 2


def test_memory_on_a_gpu_has_a_column_if_there_is_one(failed):
    assert "GPU" not in " ".join(seen(failed._repr_html_()).text)
    on_gpu = Comparison(sides=tuple(replace(one, gpu_memory=3 << 20) for one in failed.sides), steps=2)
    assert "3 MiB" in " ".join(seen(on_gpu._repr_html_()).text)
    assert "3 MiB" in str(on_gpu)


def test_a_backend_has_a_column_if_it_is_not_the_name_of_the_side(failed):
    def columns(*sides):
        found = Comparison(sides=tuple(Side(name=name, framework=framework) for name, framework in sides), steps=1)
        return re.findall(r"<th [^>]*>([^<]*)", found._repr_html_())

    assert columns(("reference", "reference"), ("ignite", "ignite"))[:2] == ["side", "how it ended"]
    assert columns(("make_loop", None), ("run.yaml", "ignite"))[:2] == ["side", "backend"]


def test_nan_and_infinities_are_texts_in_the_json(tmp_path):
    side = Side(name="a", loss=((1, math.nan), (2, math.inf), (3, -math.inf)))
    assert Comparison(sides=(side, side)).as_dict()["sides"][0]["loss"] == [
        [1, "NaN"],
        [2, "Infinity"],
        [3, "-Infinity"],
    ]


class Seen(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text, self.addresses = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "data", "action")]

    def handle_data(self, data):
        self.text.append(data)


def seen(text):
    parser = Seen()
    parser.feed(text)
    return parser


def test_the_page_loads_nothing_and_says_what_differs(different, failed, tmp_path):
    path = tmp_path / "out.html"
    different.report(path)
    page = seen(path.read_text())
    assert "script" not in page.tags
    assert all(one.startswith("#") for one in page.addresses)
    text = " ".join(" ".join(page.text).split())
    for told in ("4.weight[1, 2]", *different.difference.bits, "1 ulp", "step 4", "training loss", "val/acc"):
        assert told in text
    failed.report(path, overwrite=True)
    page = seen(path.read_text())
    assert not {"script", "i"} & {*page.tags}
    text = " ".join(page.text)
    assert "<script>alert(1)</script>" in text
    assert "<b>no</b>" in text


def test_a_notebook_shows_a_table(different, failed):
    page = seen(different._repr_html_())
    assert "1 ulp" in " ".join(page.text)
    assert "script" not in seen(failed._repr_html_()).tags


def test_no_file_is_overwritten_unasked(different, tmp_path):
    for name, save in (("a.json", different.save_json), ("a.html", different.report)):
        path = tmp_path / name
        path.write_text("mine")
        with pytest.raises(ConfigError, match="already exists"):
            save(path)
        assert path.read_text() == "mine"
        save(path, overwrite=True)
        assert path.read_text() != "mine"
    with pytest.raises(ConfigError, match="could not be written"):
        different.save_json(tmp_path / "a.json" / "b.json")


def test_the_result_can_be_copied(different):
    for one in (copy.deepcopy(different), pickle.loads(pickle.dumps(different))):
        assert one == different
        assert isinstance(one.difference, Difference)


@pytest.mark.usefixtures("here")
def test_bisect_writes_the_tensors_of_three_steps(tmp_path):
    folder = tmp_path / "tensors"
    result = compare(programs.make, programs.faulty_gradient, bisect=folder)
    names = {path.name for path in folder.iterdir()}
    assert names == {f"{side}-step-{step}.safetensors" for side in ("make", "faulty_gradient") for step in (3, 4, 5)}
    assert [f"{folder / name} is written." in result.notes for name in names] == [True] * 6
    found = {name: load_file(folder / name) for name in names}
    for step, equal in ((3, True), (4, False)):
        left, right = (found[f"{side}-step-{step}.safetensors"] for side in ("make", "faulty_gradient"))
        assert left.keys() == right.keys()
        assert torch.equal(left["gradient/4.weight"], right["gradient/4.weight"]) == equal
    left, right = (found[f"{side}-step-4.safetensors"]["gradient/4.weight"] for side in ("make", "faulty_gradient"))
    assert (left != right).nonzero().tolist() == [[1, 2]]
    assert {"batch/batch[0]", "batch 2/batch[0]", "output/output", "parameters/4.weight"} <= found[
        "make-step-4.safetensors"
    ].keys()
    with pytest.raises(ConfigError, match="already"):
        compare(programs.make, programs.faulty_gradient, bisect=folder)
    compare(programs.make, programs.faulty_gradient, bisect=folder, overwrite=True)
