"""The page of a study: each chart, hostile names, failed trials, and what it needs."""

from __future__ import annotations

import re
import sys

import pytest
import torch

import unitrain
from tests.reports.pages import EVIL, does, sections, seen
from tests.tuning.studies import study
from unitrain import TrainSpec
from unitrain.tuning.report.page import study_page


def titles(page):
    return [re.sub(r" (of|for) .*", "", one) for one in re.findall(r"<figcaption><b>(.*?)</b>", page)]


def test_there_is_a_chart_for_each_question(tmp_path):
    page = study_page(study(framework="reference", dirpath=tmp_path))
    assert does(page) == []
    assert sections(page) == ["The search", "Trials"]
    assert titles(page) == ["History", "Importance", "Learning curves", "Parallel coordinates"]
    assert page.count("<tr") == 1 + 8
    assert page.count('<tr class="best"') == 1
    assert len(re.findall(r"<title>trial \d+</title>", page)) == 8
    assert "best val/loss" in seen(page)
    assert "why it failed" not in seen(page)


def test_several_objectives_have_a_front(tmp_path):
    objectives = {"monitor": ["val/loss", "train/loss"], "direction": ["minimize", "minimize"], "pruner": None}
    result = study(framework="reference", dirpath=tmp_path, **objectives)
    page = study_page(result)
    assert titles(page) == ["Pareto front", "Importance", "Parallel coordinates"]
    assert page.count('<tr class="best"') == len(result.study.best_trials)
    assert "val/loss (minimize)" in seen(page)


def test_a_page_says_what_it_cannot_draw(tmp_path):
    page = study_page(study(n_trials=1, framework="reference", dirpath=tmp_path))
    assert "needs two complete trials that differ" in seen(page)


def hostile(trial):
    width = trial.suggest_categorical(EVIL, [EVIL, "b"])
    if trial.number:
        raise ValueError(EVIL)
    return TrainSpec(
        model=torch.nn.Linear(4, 1),
        loss=torch.nn.MSELoss(),
        optimizer=lambda p: torch.optim.SGD(p, lr=0.1),
        hparams={"w": width},
    )


def test_a_hostile_study_is_shown_as_text(tmp_path):
    result = study(
        make_spec=hostile, n_trials=2, framework="reference", dirpath=tmp_path, catch=ValueError, study_name="<script>"
    )
    page = study_page(result)
    assert does(page) == []
    assert page.count("&lt;script&gt;window.hit") >= 4
    assert page.count('<tr class="bad"') == 1
    assert "why it failed" in seen(page)


def test_a_page_needs_no_matplotlib(tmp_path, monkeypatch):
    result = study(n_trials=3, framework="reference", dirpath=tmp_path)
    for name in [one for one in sys.modules if one.startswith(("matplotlib", "unitrain.tuning.report.plots"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "History" in study_page(result)
    with pytest.raises(unitrain.UnitrainError, match="matplotlib"):
        result.plot(tmp_path / "x.png")
