"""A failure at each call of a deployment leaves exactly what was there before."""

import warnings
from functools import partial

import pytest

from unitrain.deployment.providers.aws.creation import Creation
from unitrain.deployment.providers.aws.resources import Resources
from unitrain.deployment.providers.aws.storage import Storage
from unitrain.deployment.providers.aws.update import Update
from unitrain.deployment.providers.aws.versions import Versions
from unitrain.errors import DeployError

BUCKET, IMAGE = 2, 3
"""The numbers of the calls that look at them."""
SCENARIOS = ["fresh", "update", "new machine", "unfinished"]


def prepare(scenario, account, deployed, other):
    """Bring an account into a state, and return what is to be deployed next."""
    if scenario == "fresh":
        return {}
    if scenario == "unfinished":
        deployed()
        account.sagemaker.found["endpoint"].clear()
        return {}
    deployed(tags={"team": "vision"})
    return {"bundle": other} if scenario == "update" else {"instance": "ml.c5.large"}


def outcomes(account, deployed, given):
    """Return what becomes of a failure at each call; an account that is not as it should be is a failure of the test."""
    saved, before = account.saved(), account.state()
    deployed(**given)
    found, count, after = [], len(account.calls), account.state()
    for number in range(1, count + 1):
        account.restore(saved)
        account.fail_at = number
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            error = attempted(deployed, given)
        if error is not None:
            words = "may not be read" if number == BUCKET else f"no permission for {account.calls[number - 1]}"
            assert words in str(error)
            assert "It remains" not in str(error)
            assert account.state() == before, f"after a failure at call {number}, {account.calls[number - 1]}"
            found.append("taken back")
            continue
        found.append("warned" if told else "passed")
        account.forget()
        deployed(**given)
        assert without_calls(account.state()) == without_calls(after)
    assert account.sagemaker.violations == []
    return found


def without_calls(state):
    """Return a state without the numbers of the calls, which differ in each."""
    state = dict(state)
    for kind in ("model", "endpoint-config", "endpoint"):
        state[kind] = {name: {**one, "tags": {**one["tags"], "unitrain-call": ""}} for name, one in state[kind].items()}
    state["objects"] = {url: one["content"] for url, one in state["objects"].items()}
    return state


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_failure_at_each_call_leaves_what_was_there(account, deployed, other, scenario):
    given = prepare(scenario, account, deployed, other)
    account.forget()
    found = outcomes(account, deployed, given)
    assert found.count("passed") == 1  # the image, which only the role has to read
    assert found[IMAGE - 1] == "passed"
    last = found.index("warned") if "warned" in found else len(found)
    assert set(found[IMAGE:last]) == {"taken back"}
    assert set(found[last:]) <= {"warned"}
    assert (last < len(found)) == (scenario in ("update", "new machine"))


FAULTS = {
    "model and config stay": (Versions, "_take_back", lambda self, resources, request: None, "fresh"),
    "archive stays": (Storage, "_take_back", lambda self, place, call: None, "fresh"),
    "endpoint stays": (Creation, "_is_ours", lambda self: False, "fresh"),
    "nobody waits for a creation": (Creation, "_settled", lambda self: None, "fresh"),
    "update stays": (Update, "_restore", lambda self: None, "update"),
    "nobody waits for an update": (Update, "_settled", lambda self: None, "update"),
}


@pytest.mark.parametrize("fault", [pytest.param(one, marks=pytest.mark.slow) for one in FAULTS])
def test_these_tests_see_a_fault_of_the_way_back(account, deployed, other, monkeypatch, fault):
    owner, name, wrong, scenario = FAULTS[fault]
    given = prepare(scenario, account, deployed, other)
    account.forget()
    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises(AssertionError, match=r"after a failure at call|It remains"):
        outcomes(account, deployed, given)


@pytest.mark.parametrize("operation", ["PutObject", "CreateModel", "CreateEndpointConfig", "CreateEndpoint"])
def test_a_lost_answer_is_no_failure(account, deployed, operation):
    account.lost.add(operation)
    made = deployed()
    assert account.calls.count(operation) == 2
    assert made.status().is_ready
    assert not [one for one in deployed(dry_run=True).plan.steps if one.do is not None]


def test_a_lost_answer_to_an_update_is_no_failure(account, deployed, other):
    deployed()
    account.lost.add("UpdateEndpoint")
    account.forget()
    deployed(bundle=other)
    assert account.calls.count("UpdateEndpoint") == 2
    assert len(account.sagemaker.found["model"]) == 1


def test_throttling_is_retried(account, deployed):
    account.busy = {"DescribeEndpoint": 1, "CreateModel": 1}
    assert deployed().status().is_ready
    assert account.calls.count("CreateModel") == 2


def test_what_cannot_be_taken_back_is_told(account, deployed):
    account.denied = {"CreateEndpoint", "DeleteModel"}
    with pytest.raises(DeployError, match=r"It remains: model unitrain-digits-.* \(no permission for DeleteModel"):
        deployed()
    (model,) = account.sagemaker.found["model"]
    assert account.sagemaker.found["endpoint-config"] == {}
    account.denied = set()
    deployed()
    assert [model] == list(account.sagemaker.found["endpoint-config"])


def consistent(account):
    """Return the only version that is there, complete and in service."""
    (endpoint,) = account.sagemaker.found["endpoint"].values()
    version = endpoint["given"]["EndpointConfigName"]
    assert endpoint["state"] == "InService"
    model = account.sagemaker.found["endpoint-config"][version]["given"]["ProductionVariants"][0]["ModelName"]
    assert account.sagemaker.found["model"][model]["given"]["PrimaryContainer"]["ModelDataUrl"] in account.objects
    assert account.sagemaker.violations == []
    return version


def at_once(account, deployed, one, two, start):
    """Do a deployment while another waits before its call ``start``; return the errors of both, the first's first."""
    errors, begun = {}, []

    def hold(number, operation):
        if number == start and not begun:
            begun.append(operation)
            errors["second"] = attempted(deployed, two)

    account.hold = hold
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        errors["first"] = attempted(deployed, one)
    account.hold = None
    return errors["first"], errors.get("second")


def attempted(deployed, given):
    try:
        deployed(**given)
    except DeployError as error:
        return error
    return None


@pytest.mark.parametrize("is_there", [False, True], ids=["fresh", "update"])
@pytest.mark.parametrize("is_same", [False, True], ids=["other content", "same content"])
@pytest.mark.parametrize("is_every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["writes", "every call"])
def test_of_two_deployments_at_once_the_loser_leaves_the_winner_alone(
    account, deployed, other, is_there, is_same, is_every
):
    one = {"bundle": other}
    two = one if is_same else {"bundle": other, "count": 2}
    if is_there:
        deployed()
    saved = account.saved()
    account.forget()
    deployed(**one)
    results = []
    starts = [number for number, one in enumerate(account.calls, 1) if is_every or one in account.writes]
    for start in (*starts, starts[-1] + 1, len(account.calls)):
        account.restore(saved)
        first, second = at_once(account, deployed, one, two, start)
        version = consistent(account)
        assert first is None or second is None
        results.append((first is None, second is None))
        if is_same:
            assert (first, second) == (None, None)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            deployed(**(two if second is None and first is not None else one))
        left = account.state()
        assert [list(left[kind]) for kind in ("model", "endpoint-config")] == [[consistent(account)]] * 2
        assert len(left["objects"]) == 1
        assert first is None or version == consistent(account)
    assert is_same or (False, True) in results


def another(account, deployed, start, number, operation):
    """Deploy before the call ``start``, which then fails."""
    if number == start:
        account.hold = None
        deployed()
        account.fail_at = start


def fail_beside_another(account, deployed):
    """Let each write of a deployment fail while another one of the same content has just succeeded."""
    saved = account.saved()
    account.forget()
    deployed()
    starts = [number for number, one in enumerate(account.calls, 1) if one in account.writes]
    for start in starts:
        account.restore(saved)
        account.hold = partial(another, account, deployed, start)
        assert "no permission" in str(attempted(deployed, {}))
        account.hold = None
        consistent(account)
        assert not deployed().plan.changes


def test_a_failure_beside_another_deployment_takes_back_nothing_of_it(account, deployed):
    fail_beside_another(account, deployed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "name", "wrong"),
    [
        (Resources, "is_of_call", lambda self, name, call: self.find(name) is not None),
        (Versions, "_is_used", lambda self, version: False),
        (Storage, "_is_used", lambda self, url, versions: False),
    ],
    ids=["no tag of the call", "use of a version is not seen", "use of an archive is not seen"],
)
def test_that_test_sees_a_fault(account, deployed, monkeypatch, owner, name, wrong):
    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises((AssertionError, ValueError)):
        fail_beside_another(account, deployed)
