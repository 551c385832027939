"""Plans, states and answers of SageMaker."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import unitrain
from tests.deployment.aws.conftest import ROLE
from tests.deployment.fakes.aws import IMAGE, LARGEST
from tests.deployment.fakes.sagemaker import ACCOUNT
from tests.servers import answers
from unitrain.deployment.bundle.bundle import read_bundle
from unitrain.deployment.undeploy import status
from unitrain.errors import DeployError


def actions(plan):
    return [(step.verb.value, step.kind) for step in plan.steps]


ALL = ["archive", "model", "endpoint config", "endpoint"]


def test_dry_run_makes_no_write_call(account, deployed, other):
    empty = account.state()
    made = deployed(dry_run=True)
    assert actions(made.plan) == [("create", one) for one in ALL]
    assert (account.writes, account.state()) == ([], empty)
    deployed()
    account.forget()
    made = deployed(dry_run=True, bundle=other)
    changes = [("create", one) for one in ALL[:3]] + [("update", "endpoint")]
    assert actions(made.plan) == [*changes, ("delete", "endpoint config"), ("delete", "model")]
    unitrain.undeploy("digits", provider="aws", dry_run=True)
    assert account.calls
    assert account.writes == []


def test_the_code_on_the_page_shows_the_plan(account, shared, capsys):
    page = Path(__file__).parents[3] / "docs" / "deployment.md"
    (code,) = (one for one in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL) if "role=" in one)
    exec(code, {"unitrain": unitrain, "bundle": shared})
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines() if "create" in line]
    assert not account.writes


def test_what_is_created(account, deployed, shared):
    made = deployed(tags="team=vision,stage=test", count=2)
    (model,), (config,), (endpoint,) = (
        account.sagemaker.found[one].values() for one in ("model", "endpoint-config", "endpoint")
    )
    (url,) = account.objects
    assert url == f"s3://sagemaker-eu-west-1-{ACCOUNT}/unitrain/digits/{shared.digest[:32]}/model.tar.gz"
    assert account.objects[url]["content"] == shared.archive.read_bytes()
    version = made.plan.steps[1].name
    assert list(account.sagemaker.found["model"]) == list(account.sagemaker.found["endpoint-config"]) == [version]
    assert model["given"] == {
        "ModelName": version,
        "PrimaryContainer": {"Image": IMAGE, "ModelDataUrl": url},
        "ExecutionRoleArn": ROLE,
        "EnableNetworkIsolation": True,
    }
    (variant,) = config["given"]["ProductionVariants"]
    assert (variant["ModelName"], variant["InstanceType"], variant["InitialInstanceCount"]) == (
        version,
        "ml.m5.large",
        2,
    )
    assert endpoint["given"] == {"EndpointName": "digits", "EndpointConfigName": version}
    call = account.objects[url]["marks"]["unitrain-call"]
    tags = {"unitrain": "digits", "unitrain-call": call, "team": "vision", "stage": "test"}
    assert model["tags"] == config["tags"] == endpoint["tags"] == tags


def test_a_bundle_without_an_archive_gets_one(account, deployed, other, tmp_path):
    deployed(bundle=other)
    (found,) = account.objects.values()
    made = tmp_path / "model.tar.gz"
    made.write_bytes(found["content"])
    assert read_bundle(made).digest == other.digest
    assert other.archive is None
    assert not (other.path / "model.tar.gz").exists()


def test_deploying_twice_does_nothing_the_second_time(account, deployed):
    deployed()
    before = account.state()
    account.forget()
    made = deployed()
    assert actions(made.plan) == [("keep", one) for one in ALL]
    assert (account.writes, account.state(), made.plan.changes) == ([], before, False)


@pytest.mark.parametrize("lag", [0, 2])
def test_another_content_updates_without_downtime_and_cleans_up(account, deployed, other, lag):
    old = deployed().plan.steps[1].name
    account.sagemaker.lag = lag
    account.forget()
    made = deployed(bundle=other)
    assert "CreateEndpoint" not in account.calls
    assert "DeleteEndpoint" not in account.calls
    new = made.plan.steps[1].name
    assert new != old
    assert list(account.sagemaker.found["model"]) == list(account.sagemaker.found["endpoint-config"]) == [new]
    assert [other.digest[:32] in url for url in account.objects] == [True]
    assert account.sagemaker.violations == []


def test_another_machine_keeps_the_archive(account, deployed):
    deployed()
    before = dict(account.objects)
    account.forget()
    deployed(instance="ml.c5.large")
    assert "PutObject" not in account.calls
    assert account.objects == before


def test_a_failed_endpoint_tells_the_reason_and_is_taken_back(account, deployed):
    before = account.state()
    account.sagemaker.outcome = "failed"
    with pytest.raises(DeployError, match=r"Failed: The primary container .* ping health check") as caught:
        deployed()
    assert caught.value.hint.endswith("/aws/sagemaker/Endpoints/digits.")
    assert account.state() == before
    assert account.sagemaker.violations == []


@pytest.mark.parametrize("outcome", ["rolled back", "failed"])
def test_a_failed_update_leaves_the_version_before(account, deployed, other, outcome):
    deployed(tags={"team": "vision"})
    before = account.state()
    account.sagemaker.outcome = outcome

    def hold(number, operation):
        if operation == "CreateEndpoint":
            account.sagemaker.outcome = "good"

    account.hold = hold
    with pytest.raises(DeployError, match="ping health check"):
        deployed(bundle=other)
    after = account.state()
    after["endpoint"]["digits"]["reason"] = ""
    assert after == before
    assert account.sagemaker.violations == []


def test_an_image_that_is_absent_is_told_from_the_reason_where_it_may_not_be_read(account, deployed):
    account.denied, account.images = {"DescribeImages"}, set()
    account.sagemaker.images = set()
    before = account.state()
    with pytest.raises(DeployError, match=r"The image '.*digits:1' does not exist"):
        deployed()
    assert account.state() == before


def put_endpoint(account, state, config="", tags=None):
    account.sagemaker.put(
        "endpoint", "digits", tags or {"unitrain": "digits"}, EndpointName="digits", EndpointConfigName=config or "else"
    )
    found = account.sagemaker.found["endpoint"]["digits"]
    settled = {"Deleting": "gone", "Creating": "Failed"}.get(state, "InService")
    moving = state in ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
    found.update(state=state, left=[(state, config, ""), (settled, config, "")] if moving else [])
    return found


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("InService", ["keep"]),
        ("Creating", ["keep"]),
        ("Updating", ["keep"]),
        ("SystemUpdating", ["keep"]),
        ("RollingBack", ["keep"]),
        ("Deleting", ["wait for", "create"]),
        ("Failed", ["delete", "create"]),
        ("OutOfService", None),
        ("UpdateRollbackFailed", None),
    ],
)
def test_each_state_of_what_is_wanted(account, deployed, state, expected):
    version = deployed().plan.steps[1].name
    put_endpoint(account, state, version)
    if expected is None:
        with pytest.raises(DeployError, match=f"is {state}.*\n.*undeploy digits"):
            deployed()
        return
    found = deployed(dry_run=True).plan.steps[3:]
    assert [step.verb.value for step in found] == expected
    assert {step.name for step in found} == {"digits"}
    if state != "Creating":
        assert deployed().status().is_ready


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("InService", ["update"]),
        ("Creating", ["wait for", "update"]),
        ("Updating", ["wait for", "update"]),
        ("SystemUpdating", ["wait for", "update"]),
        ("RollingBack", ["wait for", "update"]),
        ("Deleting", ["wait for", "create"]),
        ("Failed", ["delete", "create"]),
        ("OutOfService", ["update"]),
        ("UpdateRollbackFailed", ["update"]),
    ],
)
def test_each_state_of_something_else(account, deployed, other, state, expected):
    version = deployed().plan.steps[1].name
    put_endpoint(account, state, version)
    found = [step.verb.value for step in deployed(bundle=other, dry_run=True).plan.steps if step.kind == "endpoint"]
    assert found == expected
    if state != "Creating":  # which fails in the end, and nobody can update that
        assert deployed(bundle=other).status().is_ready
        assert len(account.sagemaker.found["model"]) == 1


def test_a_deployment_without_waiting_is_continued(account, deployed):
    made = deployed(wait=False)
    assert not made.is_complete
    assert made.status().state in ("Creating", "InService")
    assert made.wait().status().is_ready
    assert account.calls.count("CreateEndpoint") == 1


def test_status_tells_states_and_reasons(account, deployed):
    assert status("digits", provider="aws").state == "absent"
    deployed()
    found = status("digits", provider="aws")
    assert (found.state, found.is_ready, found.reason) == ("InService", True, "")
    assert found.details["url"].endswith("/endpoints/digits/invocations")
    account.sagemaker.found["endpoint"]["digits"].update(state="Failed", reason="no disk")
    found = status("digits", provider="aws")
    assert (found.state, found.is_ready, found.reason) == ("Failed", False, "no disk")


def test_undeploying_twice(account, deployed):
    before = account.state()
    made = deployed()
    made.undeploy()
    assert account.state() == before
    account.forget()
    made.undeploy()
    assert account.writes == []
    assert not unitrain.undeploy("digits", provider="aws").steps


@pytest.mark.parametrize("state", ["Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"])
def test_undeploying_waits_until_sagemaker_lets_it(account, deployed, state):
    version = deployed().plan.steps[1].name
    put_endpoint(account, state, version)
    unitrain.undeploy("digits", provider="aws", progress=False)
    assert (account.sagemaker.found["endpoint"], account.objects, account.sagemaker.violations) == ({}, {}, [])


def test_foreign_resources_are_refused_and_left(account, deployed):
    version = deployed(dry_run=True).plan.steps[1].name
    for kind, name in (("model", version), ("endpoint-config", version), ("endpoint", "digits")):
        account.sagemaker.put(kind, name, {"unitrain": "somebody"}, EndpointName=name, EndpointConfigName="x")
        if kind == "endpoint":
            account.sagemaker.found[kind][name]["state"] = "InService"
        before = account.state()
        account.forget()
        with pytest.raises(DeployError, match="is not unitrain's: it has no tag unitrain=digits"):
            deployed()
        assert (account.writes, account.state()) == ([], before)
        if kind == "endpoint":
            with pytest.raises(DeployError, match="is not unitrain's"):
                unitrain.undeploy("digits", provider="aws")
            assert account.state() == before
        else:
            assert not unitrain.undeploy("digits", provider="aws").steps
        account.sagemaker.found[kind].clear()


def test_a_foreign_archive_is_refused_and_left(account, deployed):
    url = deployed(dry_run=True).plan.steps[0].name
    account.objects[url] = {"content": b"theirs", "marks": {}}
    with pytest.raises(DeployError, match="unitrain did not upload it"):
        deployed()
    assert account.objects == {url: {"content": b"theirs", "marks": {}}}


def test_names_that_only_begin_alike_are_left(account, deployed):
    deployed(name="digits-2")
    before = account.state()
    deployed().undeploy()
    assert account.state() == before


@pytest.fixture
def container(shared, free_port):
    """Start the bundle's own entry point, as SageMaker starts an image."""
    variables = {"PATH": os.environ["PATH"], "SAGEMAKER_BIND_TO_PORT": str(free_port)}
    process = subprocess.Popen(
        [sys.executable, shared.path / "serve", "serve"], env=variables, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{free_port}"
    try:
        for _ in range(600):
            if answers(f"{address}/ping", timeout=2):
                break
            assert process.poll() is None
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def test_a_deployed_model_answers_as_the_file_does(account, deployed, shared, container):
    account.container = container
    made = deployed()
    rows = torch.randn(5, 4)
    assert torch.equal(made.predict(rows), unitrain.InferenceEngine(shared.model_file).predict(rows))
    many = torch.zeros(LARGEST // 16, 4)
    account.forget()
    with pytest.raises(DeployError, match=f"SageMaker takes {LARGEST}"):
        made._provider.ask("digits", {"instances": many.tolist()})
    assert account.calls == []
    with pytest.raises(DeployError, match=r"the model did not answer: Received client error \(4\d\d\)"):
        made._provider.ask("digits", {"instances": "no rows"})
