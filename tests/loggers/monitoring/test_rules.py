"""The dashboards and alerts in examples/monitoring are valid, and each metric in them exists."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.monitoring_servers import get, program
from unitrain import Event, LRMonitor, MetricsClient, PrometheusLogger, UnifiedTrainer
from unitrain.serving import metrics as serving

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "examples" / "monitoring"
DASHBOARDS = sorted(path.name for path in FOLDER.glob("*.json"))
_NAME = re.compile(r"unitrain_[a-z0-9_]+")


def promtool(*arguments, folder=FOLDER):
    done = subprocess.run([program("promtool"), *arguments], cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_the_rules_and_the_configuration_are_valid():
    assert promtool("check", "rules", "alerts.yml") == (0, "Checking alerts.yml\n  SUCCESS: 5 rules found\n\n")
    status, said = promtool("check", "config", "prometheus.yml")
    assert status == 0, said


def test_each_alert_fires_when_it_should():
    status, said = promtool("test", "rules", "alerts_test.yml", folder=Path(__file__).parent)
    assert status == 0, said
    tested = set(re.findall(r"alertname: (\w+)", Path(__file__).with_name("alerts_test.yml").read_text()))
    assert tested == set(re.findall(r"alert: (\w+)", (FOLDER / "alerts.yml").read_text()))


FAULTS = {
    "a threshold": ("> 600", "> 660"),
    "NaN passes": ("unitrain_train_loss != unitrain_train_loss or ", ""),
    "infinity passes": (" or abs(unitrain_train_loss) == Inf", ""),
    "another reason": ('reason="queue_full"', 'reason="full"'),
    "another quantile": ("0.99,", "0.9,"),
    "all models together": ("(instance, model, le)", "(instance, le)"),
    "client errors": ('code=~"5.."', 'code=~"4.."'),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_in_a_rule_is_noticed(kind, tmp_path):
    right, wrong = FAULTS[kind]
    text = (FOLDER / "alerts.yml").read_text()
    assert right in text
    (tmp_path / "alerts.yml").write_text(text.replace(right, wrong))
    tests = Path(__file__).with_name("alerts_test.yml").read_text()
    (tmp_path / "test.yml").write_text(tests.replace("../../../examples/monitoring/alerts.yml", "alerts.yml"))
    assert promtool("test", "rules", "test.yml", folder=tmp_path)[0] == 1


def names_in(text):
    return {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}


@pytest.fixture
def exposed(new_spec, batches):
    """Return the names that a run with rows, batches and an LRMonitor exposes, and those of a service."""
    rows, each, found = PrometheusLogger(port=0), PrometheusLogger(port=0), set()
    loggers = [rows, MetricsClient(each)]
    options = {"callbacks": [LRMonitor()], "log_every_n_steps": 1, "enable_progress_bar": False}
    trainer = UnifiedTrainer("reference", max_epochs=1, loggers=loggers, **options)
    trainer.on(Event.FIT_END, lambda: found.update(names_in(get(rows.url) + get(each.url))))
    trainer.fit(new_spec(), batches, batches)
    layout = serving.Layout(["digits"], ["/predict"])
    numbers = serving.Numbers(layout, bytearray(layout.bytes(1)))
    numbers.began()
    numbers.ended("/predict", "digits", 200)
    text = serving.exposition(numbers, [{"name": "digits", "sha256": "0", "format": "onnx"}]).decode()
    return found | names_in(text)


@pytest.mark.parametrize("file", [*DASHBOARDS, "alerts.yml"])
def test_each_metric_exists(file, exposed):
    used = set(_NAME.findall((FOLDER / file).read_text()))
    assert used
    assert used - exposed == set()


@pytest.mark.parametrize("file", DASHBOARDS)
def test_a_dashboard_is_whole(file):
    board = json.loads((FOLDER / file).read_text())
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) >= 8
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len({*cells}) == len(cells)  # none covers another
    assert max(x for x, _ in cells) < 24  # the columns of Grafana
    variables = {one["name"] for one in board["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(panels))) <= variables
    assert all(panel["title"] and panel["targets"] for panel in panels)


def test_each_query_of_a_dashboard_is_promql(tmp_path):
    """A rule is made of each query, so that promtool reads it."""
    boards = (json.loads((FOLDER / file).read_text()) for file in DASHBOARDS)
    queries = [target["expr"] for board in boards for panel in board["panels"] for target in panel["targets"]]
    rules = [{"record": f"query:number{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))  # JSON is YAML
    status, said = promtool("check", "rules", "rules.yml", folder=tmp_path)
    assert (status, f"{len(queries)} rules found" in said) == (0, True), said
    assert len(queries) > 20
