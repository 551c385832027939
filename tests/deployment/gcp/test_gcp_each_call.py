"""A failure at each single call: what was there before remains, and nothing else."""

import warnings
from itertools import count

import pytest

from tests.deployment.fakes.gcp import Fault
from unitrain.deployment.providers.gcp.model import KIND
from unitrain.errors import DeployError

REFUSED, LOST = Fault("PERMISSION_DENIED"), Fault("INTERNAL", after=True)


def serving(direct, bundle):
    """Return whether exactly this bundle is served, without leftovers."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps = direct.deploy(bundle, dry_run=True).plan.steps
    return [step.verb.value for step in steps] == ["keep"] * 3


def failures(direct, bundle, prepare, fault):
    """Deploy with a fault at call n of the deploy, for each n; yield what is there before, after, and what was raised.

    It ends after the first n that the deploy does not reach.
    """
    for n in count():
        direct.anew()
        prepare()
        before, begun = direct.vertex.state(), len(direct.vertex.calls)
        direct.vertex.faults[begun + n] = fault
        raised, told = None, []
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                direct.deploy(bundle)
        except DeployError as error:
            raised = str(error)
        yield before, direct.vertex.state(), raised, [str(one.message) for one in told]
        if direct.vertex.faults:
            assert raised is None
            direct.vertex.faults.clear()
            return


@pytest.mark.parametrize("fault", [REFUSED, LOST], ids=["refused", "answer lost"])
def test_a_first_deploy_leaves_nothing(fault, direct, bundles):
    seen = list(failures(direct, bundles[0], lambda: None, fault))
    assert len(seen) > 12  # calls
    for before, after, raised, _ in seen[:-1]:
        assert before == {"endpoints": {}, "models": {}, "running": []}
        assert after == before
        assert fault.message in raised
    assert serving(direct, bundles[0])


@pytest.mark.parametrize("fault", [REFUSED, LOST], ids=["refused", "answer lost"])
def test_an_update_leaves_what_was_served(fault, direct, bundles):
    seen = list(failures(direct, bundles[1], lambda: direct.deploy(bundles[0]), fault))
    failed = [one for one in seen[:-1] if one[2] is not None]
    cleaning = [one for one in seen[:-1] if one[2] is None]
    assert len(failed) > 12
    for before, after, raised, _ in failed:
        assert after == before
        assert fault.message in raised
    assert len(cleaning) > 4  # the new one serves: what is left of the old one is a warning
    for before, after, _, told in cleaning:
        assert told
        assert all("could not " in one and "The next deploy tries again" in one for one in told)
        assert after["endpoints"]["digits"]["trafficSplit"] != before["endpoints"]["digits"]["trafficSplit"]
    assert serving(direct, bundles[1])


def test_the_next_deploy_removes_what_was_left(direct, bundles):
    direct.deploy(bundles[0])
    direct.vertex.failing["undeployModel"] = ("INTERNAL", "a planted fault")
    with pytest.warns(UserWarning, match="could not delete") as told:
        direct.deploy(bundles[1])
    assert ["a planted fault" in str(one.message) for one in told] == [True, False]
    assert "it is still deployed" in str(told[1].message)
    assert len(direct.vertex.endpoints["digits"]["deployedModels"]) == 2
    again = direct.deploy(bundles[1])
    assert [step.verb.value for step in again.plan.steps] == ["keep"] * 3 + ["delete"] * 2
    assert serving(direct, bundles[1])


@pytest.mark.parametrize(
    "fault",
    [
        Fault("UNAVAILABLE", after=True),
        pytest.param(Fault("UNAVAILABLE"), marks=pytest.mark.slow),
        pytest.param(Fault("RESOURCE_EXHAUSTED"), marks=pytest.mark.slow),
    ],
    ids=["answer lost", "unavailable", "throttled"],
)
def test_what_is_only_throttled_succeeds(fault, direct, bundles):
    for bundle, prepare in ((bundles[0], lambda: None), (bundles[1], lambda: direct.deploy(bundles[0]))):
        for _, after_it, raised, told in failures(direct, bundle, prepare, fault):
            assert raised is None
            assert told == []
            assert len(after_it["models"]) == 1
            (deployed,) = after_it["endpoints"]["digits"]["deployedModels"]
            assert after_it["endpoints"]["digits"]["trafficSplit"] == {deployed["id"]: 100}
            assert after_it["running"] == []


def test_an_undeploy_that_fails_can_be_repeated(direct, bundles):
    for n in count():
        direct.anew()
        direct.deploy(bundles[0])
        direct.vertex.faults[len(direct.vertex.calls) + n] = REFUSED
        try:
            direct.undeploy()
        except DeployError:
            direct.undeploy()
        else:
            assert direct.vertex.faults
            break
        assert direct.vertex.state() == {"endpoints": {}, "models": {}, "running": []}
    assert n > 6


OPERATIONS = {
    "createEndpoint": ("create endpoint digits", None),
    "upload": (f"create {KIND} unitrain-digits-", "endpoint digits"),
    "deployModel": ("create deployed model unitrain-digits-", "model unitrain-digits-"),
}


@pytest.mark.parametrize("kind", OPERATIONS)
def test_a_failed_operation_tells_its_reason(kind, direct, bundles):
    step, _ = OPERATIONS[kind]
    reason = "Model server exited unexpectedly. Model server logs can be found at https://console"
    direct.vertex.failing[kind] = ("FAILED_PRECONDITION", reason)
    with pytest.raises(DeployError) as raised:
        direct.deploy(bundles[0])
    assert reason in str(raised.value)
    assert f"failed at step {list(OPERATIONS).index(kind) + 1} of 3, {step}" in str(raised.value)
    assert "It remains" not in str(raised.value)
    assert direct.vertex.state() == {"endpoints": {}, "models": {}, "running": []}
    direct.deploy(bundles[0])
    before = direct.vertex.state()
    if kind != "createEndpoint":
        direct.vertex.failing[kind] = ("FAILED_PRECONDITION", reason)
        with pytest.raises(DeployError, match="Model server exited unexpectedly"):
            direct.deploy(bundles[1])
        assert direct.vertex.state() == before


def test_what_cannot_be_taken_back_is_named(direct, bundles):
    direct.vertex.failing["deployModel"] = ("INTERNAL", "it crashed")
    direct.vertex.failing["deleteModel"] = ("INTERNAL", "no luck either")
    with pytest.raises(
        DeployError, match=r"it crashed.*Taken back: .*endpoint digits.*It remains: model unitrain-digits-.*no luck"
    ):
        direct.deploy(bundles[0])
    assert direct.vertex.state()["endpoints"] == {}
    assert len(direct.vertex.models) == 1
    assert direct.status().state == "Incomplete"
    direct.undeploy()
    assert direct.vertex.models == {}
