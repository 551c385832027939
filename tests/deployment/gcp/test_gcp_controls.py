"""Without the mechanism, what it prevents happens: the tests beside this one can fail."""

import pytest

from tests.deployment.fakes.gcp import Fault
from tests.deployment.gcp.test_gcp_at_once import attempt, name_of, served, together
from tests.deployment.gcp.test_gcp_each_call import REFUSED, failures
from tests.deployment.gcp.test_gcp_life import outages
from unitrain.deployment.execution import Execution
from unitrain.deployment.providers.gcp import api, deploying, endpoint, operations, resources
from unitrain.deployment.providers.gcp.claim import Claim
from unitrain.deployment.steps import Step, Verb
from unitrain.errors import DeployError


def remnants(direct, bundles, *, is_update=False):
    """Return how many failed deploys left something else than what was before."""
    prepare = (lambda: direct.deploy(bundles[0])) if is_update else (lambda: None)
    seen = [one for one in failures(direct, bundles[1], prepare, REFUSED) if one[2] is not None]
    return sum(before != after for before, after, *_ in seen)


def test_without_a_take_back_something_remains(direct, bundles, monkeypatch):
    monkeypatch.setattr(Execution, "_take_back", lambda self: ([], []))
    assert remnants(direct, bundles) > 8


def test_without_the_old_labels_an_update_leaves_its_own(direct, bundles, monkeypatch):
    claimed = endpoint.claimed
    monkeypatch.setattr(
        endpoint, "claimed", lambda *given: Step(Verb.UPDATE, "endpoint", "digits", do=claimed(*given).do)
    )
    assert remnants(direct, bundles, is_update=True) > 8


def test_without_waiting_for_what_was_begun_it_comes_after_the_take_back(direct, bundles, monkeypatch):
    monkeypatch.setattr(operations, "_PATIENCE", 0.2)
    monkeypatch.setattr("unitrain.deployment.providers.gcp.claim.Creation.unfinished", lambda self: None)
    assert remnants(direct, bundles) > 0


@pytest.mark.filterwarnings("ignore:could not")
def test_without_the_claim_two_calls_mix(direct, bundles, monkeypatch):
    monkeypatch.setattr(Claim, "held", lambda self: self.now())
    monkeypatch.setattr(operations, "_PATIENCE", 0.2)
    other, mixed = {"machine": "n1-standard-4"}, 0
    for first, second in together(
        direct, monkeypatch, lambda: None, lambda: direct.deploy(bundles[1]), lambda: direct.deploy(bundles[1], **other)
    ):
        winners = [one for one in (first, second) if not isinstance(one, DeployError)]
        is_second = second in winners and first not in winners
        mixed += (len(winners) == 2 and len(direct.vertex.models) > 1) or (
            is_second and attempt(lambda: served(direct)) != name_of(second)
        )
    assert mixed > 0


def test_traffic_on_nothing_is_noticed():
    assert outages([("digits", 0, {}), ("digits", 1, {"1": 100}), ("digits", 2, {}), ("digits", 0, {})]) == [{}]


def test_without_the_move_the_old_model_keeps_the_traffic(direct, bundles, monkeypatch):
    first = direct.deploy(bundles[0])
    monkeypatch.setattr(deploying.traffic, "moved", lambda *_: Step(Verb.UPDATE, "traffic", "digits"))
    with pytest.warns(UserWarning, match="it is still deployed"):
        direct.deploy(bundles[1])
    assert served(direct) == name_of(first)


def test_without_another_attempt_throttling_fails(direct, bundles, monkeypatch):
    monkeypatch.setattr(api, "_AGAIN", ())
    seen = list(failures(direct, bundles[0], lambda: None, Fault("UNAVAILABLE")))
    assert all(raised is not None for *_, raised, _ in seen[:-1])


def test_without_the_labels_a_foreign_endpoint_would_be_taken(direct, bundles, monkeypatch):
    direct.vertex.endpoints["digits"] = {
        "name": f"{direct.vertex.parent}/endpoints/digits",
        "displayName": "digits",
        "etag": "e",
    }
    monkeypatch.setattr(resources, "OWN", "displayName")
    with pytest.raises(DeployError, match="is not of unitrain"):
        direct.deploy(bundles[0])
    direct.vertex.endpoints["digits"]["labels"] = {"displayName": "digits"}
    direct.deploy(bundles[0])
