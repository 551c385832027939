"""A deployment on Vertex AI from its plan to its end."""

import numpy as np
import pytest
import torch

import unitrain
from tests.deployment.fakes.gcp_server import BODY
from unitrain.errors import DataError, DeployError


def served_by(cloud, bundle):
    """Let the fake answer as the bundle's model does."""
    engine = unitrain.InferenceEngine(bundle.model_file)
    cloud.vertex.answer = lambda rows: engine.predict(np.asarray(rows, dtype=np.float32)).tolist()


def model_of(made):
    return next(one.name for one in made.plan.steps if one.kind == "model")


def verbs(plan):
    return [(one.verb.value, one.kind) for one in plan.steps]


CREATED = [("create", "endpoint"), ("create", "model"), ("create", "deployed model")]
UPDATED = [
    ("update", "endpoint"),
    ("create", "model"),
    ("create", "deployed model"),
    ("update", "traffic"),
    ("delete", "deployed model"),
    ("delete", "model"),
]


def test_it_answers_as_the_model_does(cloud, bundles):
    made = cloud.deploy(bundles[0], labels={"team": "vision"}, max_replicas=3, accelerator="NVIDIA_TESLA_T4")
    served_by(cloud, bundles[0])
    rows = torch.randn(5, 4)
    assert torch.equal(made.predict(rows), unitrain.InferenceEngine(bundles[0].model_file).predict(rows))
    state, version = cloud.vertex.state(), model_of(made)
    identity = version.removeprefix("unitrain-digits-")
    assert list(state["models"]) == [version]
    assert list(state["endpoints"]) == ["digits"]
    model, endpoint = state["models"][version], state["endpoints"]["digits"]
    assert model["labels"] == endpoint["labels"]
    assert {**model["labels"], "unitrain-call": ""} == {
        "team": "vision",
        "unitrain": "digits",
        "unitrain-version": identity,
        "unitrain-call": "",
    }
    assert bundles[0].digest in model["description"]
    (deployed,) = endpoint["deployedModels"]
    assert endpoint["trafficSplit"] == {deployed["id"]: 100}
    assert deployed["dedicatedResources"] == {
        "machineSpec": {
            "machineType": "n1-standard-2",
            "acceleratorType": "NVIDIA_TESLA_T4",
            "acceleratorCount": 1,
        },
        "minReplicaCount": 1,
        "maxReplicaCount": 3,
    }
    assert made.url == f"{cloud.app.url}/v1/{cloud.vertex.parent}/endpoints/digits:predict"
    status = cloud.status()
    assert (status.state, status.is_ready, status.details["model"]) == ("Ready", True, f"{version} (100 %)")
    assert verbs(made.plan) == CREATED


def test_a_dry_run_writes_nothing(cloud, bundles):
    assert verbs(cloud.deploy(bundles[0], dry_run=True).plan) == CREATED
    assert cloud.vertex.calls
    assert cloud.vertex.writes == []
    cloud.deploy(bundles[0])
    before, written = cloud.vertex.state(), len(cloud.vertex.writes)
    assert verbs(cloud.deploy(bundles[1], dry_run=True).plan) == UPDATED
    assert verbs(cloud.undeploy(dry_run=True)) == [
        ("delete", "deployed model"),
        ("delete", "endpoint"),
        ("delete", "model"),
    ]
    assert cloud.vertex.state() == before
    assert len(cloud.vertex.writes) == written


def test_the_same_again_is_kept(cloud, bundles):
    cloud.deploy(bundles[0])
    before, written = cloud.vertex.state(), len(cloud.vertex.writes)
    again = cloud.deploy(bundles[0])
    assert verbs(again.plan) == [("keep", "endpoint"), ("keep", "model"), ("keep", "deployed model")]
    assert not again.plan.changes
    assert cloud.vertex.state() == before
    assert len(cloud.vertex.writes) == written


def outages(splits):
    """Return the moments without all of the traffic, from the first with all of it until nothing is deployed."""
    first = next(index for index, (_, _, split) in enumerate(splits) if sum(split.values()) == 100)
    return [split for _, deployed, split in splits[first:] if deployed and sum(split.values()) != 100]


def test_an_update_never_leaves_the_endpoint_without_traffic(cloud, bundles):
    first = cloud.deploy(bundles[0])
    second = cloud.deploy(bundles[1])
    assert verbs(second.plan) == UPDATED
    state = cloud.vertex.state()
    assert list(state["models"]) == [model_of(second)] != [model_of(first)]
    (deployed,) = state["endpoints"]["digits"]["deployedModels"]
    assert state["endpoints"]["digits"]["trafficSplit"] == {deployed["id"]: 100}
    assert outages(cloud.vertex.splits) == []
    assert max(deployed for _, deployed, _ in cloud.vertex.splits) == 2
    refused = [call for call in cloud.vertex.writes if call[0] == "DELETE"]
    assert len(refused) == 1 + cloud.vertex.held  # the old model could not be deleted at once


def test_other_settings_update_too(cloud, bundles):
    cloud.deploy(bundles[0])
    made = cloud.deploy(bundles[0], machine="n1-standard-4")
    assert verbs(made.plan) == UPDATED
    (deployed,) = cloud.vertex.state()["endpoints"]["digits"]["deployedModels"]
    assert deployed["dedicatedResources"]["machineSpec"] == {"machineType": "n1-standard-4"}


def test_undeploy_twice(cloud, bundles):
    made = cloud.deploy(bundles[0])
    foreign = {"name": f"{cloud.vertex.parent}/models/1", "displayName": model_of(made)}
    cloud.vertex.models["1"] = {**foreign, "etag": "e"}
    cloud.vertex.endpoints["2"] = {"name": f"{cloud.vertex.parent}/endpoints/2", "displayName": "other", "etag": "e"}
    made.undeploy()
    assert list(cloud.vertex.models) == ["1"]
    assert list(cloud.vertex.endpoints) == ["2"]
    assert cloud.vertex.models["1"] == {**foreign, "etag": "e"}
    written = len(cloud.vertex.writes)
    assert cloud.undeploy().steps == ()
    assert len(cloud.vertex.writes) == written
    assert cloud.status().state == "absent"


FOREIGN = {
    "the ID of the endpoint": ("endpoints", "digits", {"displayName": "mine"}),
    "the display name of the endpoint": ("endpoints", "77", {"displayName": "digits"}),
    "an endpoint of another deployment": ("endpoints", "digits", {"displayName": "x", "labels": {"unitrain": "other"}}),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_what_is_not_ours_is_refused(case, cloud, bundles):
    kind, name, told = FOREIGN[case]
    getattr(cloud.vertex, kind)[name] = {"name": f"{cloud.vertex.parent}/{kind}/{name}", "etag": "e", **told}
    before = cloud.vertex.state()
    for call in (lambda: cloud.deploy(bundles[0]), cloud.undeploy, cloud.status):
        with pytest.raises(DeployError, match="is not of unitrain"):
            call()
    assert cloud.vertex.state() == before
    assert cloud.vertex.writes == []


def test_a_foreign_model_with_our_id_is_refused(cloud, bundles):
    version = model_of(cloud.deploy(bundles[0], dry_run=True))
    cloud.vertex.models[version] = {"name": f"{cloud.vertex.parent}/models/{version}", "displayName": "x", "etag": "e"}
    with pytest.raises(DeployError, match=f"the model {version} is not of unitrain"):
        cloud.deploy(bundles[0])
    assert cloud.vertex.writes == []


def test_a_foreign_model_on_our_endpoint_is_refused(cloud, bundles):
    cloud.deploy(bundles[0])
    model = f"{cloud.vertex.parent}/models/theirs"
    cloud.vertex.endpoints["digits"]["deployedModels"].append({"id": "9", "model": model, "displayName": "theirs"})
    before, written = cloud.vertex.state(), len(cloud.vertex.writes)
    for call in (lambda: cloud.deploy(bundles[1]), cloud.undeploy):
        with pytest.raises(DeployError, match="did not deploy the model theirs"):
            call()
    assert cloud.vertex.state() == before
    assert len(cloud.vertex.writes) == written


@pytest.mark.parametrize("dedicated", [False, True], ids=["shared", "dedicated"])
def test_a_request_is_measured_before_it_is_sent(dedicated, cloud, bundles):
    made = cloud.deploy(bundles[0], dedicated=dedicated)
    cloud.vertex.answer = len
    host = "localhost" if dedicated else "127.0.0.1"
    assert made.url.startswith(f"http://{host}:{cloud.vertex.port}/v1/")
    provider = made._provider
    content = {"instances": "x" * (BODY[dedicated] - len('{"instances": ""}'))}
    assert provider.ask("digits", content)["predictions"] == len(content["instances"])
    asked = len(cloud.vertex.calls)
    with pytest.raises(DataError, match=rf"{BODY[dedicated] + 1:,} bytes; this endpoint takes {BODY[dedicated]:,}"):
        provider.ask("digits", {"instances": content["instances"] + "x"})
    assert len(cloud.vertex.calls) == asked
    with pytest.raises(DataError, match="no NaN"):
        provider.ask("digits", {"instances": [[float("nan")]]})


def test_an_endpoint_cannot_become_dedicated(cloud, bundles):
    cloud.deploy(bundles[0])
    with pytest.raises(DeployError, match="dedicated= cannot be changed: the endpoint digits is shared"):
        cloud.deploy(bundles[0], dedicated=True)


def test_nothing_answers_that_is_not_there(cloud, bundles):
    made = cloud.deploy(bundles[0], dry_run=True)
    with pytest.raises(DeployError, match="there is no deployment 'digits'"):
        made.predict(torch.zeros(1, 4))
