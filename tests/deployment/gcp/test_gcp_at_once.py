"""Two calls at once, and calls that go on where another one was stopped."""

from itertools import count

import pytest

from tests.deployment.gcp.conftest import PLACE
from unitrain.deployment.providers.gcp.api import Api
from unitrain.errors import DeployError

EMPTY = {"endpoints": {}, "models": {}, "running": []}


def served(direct):
    """Return the identity that has the traffic."""
    endpoint = direct.vertex.state()["endpoints"]["digits"]
    serving = [one for one in endpoint["deployedModels"] if endpoint["trafficSplit"].get(one["id"]) == 100]
    return serving[0]["model"].rsplit("/", 1)[-1]


def together(direct, monkeypatch, prepare, first, second):
    """Run ``second`` before call n of ``first``, for each n; yield what each of them returned or raised."""
    ask = Api._request
    for n in count():
        direct.anew()
        prepare()
        calls, ended = iter(range(10**6)), []

        def interrupted(self, *args, n=n, calls=calls, ended=ended, **content):
            if not ended and next(calls) == n:
                monkeypatch.setattr(Api, "_request", ask)
                ended.append(attempt(second))
            return ask(self, *args, **content)

        monkeypatch.setattr(Api, "_request", interrupted)
        outcome = attempt(first)
        monkeypatch.setattr(Api, "_request", ask)
        if not ended:
            return
        yield outcome, ended[0]


def attempt(call):
    try:
        return call()
    except DeployError as error:
        return error


def name_of(made):
    return next(step.name for step in made.plan.steps if step.kind == "model")


@pytest.mark.parametrize("is_update", [False, True], ids=["first deploy", "update"])
def test_the_loser_takes_nothing_from_the_winner(is_update, direct, bundles, monkeypatch):
    other = {"machine": "n1-standard-4"}
    prepare = (lambda: direct.deploy(bundles[0])) if is_update else (lambda: None)
    seen = []
    for first, second in together(
        direct, monkeypatch, prepare, lambda: direct.deploy(bundles[1]), lambda: direct.deploy(bundles[1], **other)
    ):
        winners = [one for one in (first, second) if not isinstance(one, DeployError)]
        assert winners, (first, second)
        for lost in {first, second} - set(winners):
            assert "another deploy or undeploy of 'digits' is running" in str(lost)
        assert served(direct) in [name_of(one) for one in winners]
        assert direct.vertex.state()["running"] == []
        is_second = served(direct) not in [name_of(one) for one in winners if one is first]
        left = direct.deploy(bundles[1], **(other if is_second else {})).plan  # what a lost clean-up did not remove
        assert {step.verb.value for step in left.steps if not step.is_cleanup} == {"keep"}
        assert list(direct.vertex.models) == [served(direct)]
        seen.append(tuple(one in winners for one in (first, second)))
    assert {(False, True), (True, False)} <= set(seen)


def test_two_equal_deploys_end_in_one(direct, bundles, monkeypatch):
    deploy = lambda: direct.deploy(bundles[0])  # noqa: E731
    seen = []
    for first, second in together(direct, monkeypatch, lambda: None, deploy, deploy):
        assert not isinstance(second, DeployError), second
        assert len(direct.vertex.models) == 1
        assert len(direct.vertex.endpoints["digits"]["deployedModels"]) == 1
        assert served(direct) == name_of(second)
        seen.append(isinstance(first, DeployError))
    assert set(seen) == {True, False}


def test_an_undeploy_in_between_is_not_undone(direct, bundles, monkeypatch):
    for first, second in together(
        direct, monkeypatch, lambda: None, lambda: direct.deploy(bundles[0]), direct.undeploy
    ):
        assert not isinstance(second, DeployError), second
        if isinstance(first, DeployError):
            assert direct.vertex.state() == EMPTY
        else:
            assert served(direct) == name_of(first) or second.steps


@pytest.mark.parametrize("is_update", [False, True], ids=["first deploy", "update"])
def test_a_stopped_call_goes_on(is_update, direct, bundles, monkeypatch):
    def stop():
        raise KeyboardInterrupt

    ask = Api._request
    for n in count():
        direct.anew()
        if is_update:
            direct.deploy(bundles[0])
        calls = iter(range(10**6))

        def interrupted(self, *args, n=n, calls=calls, **content):
            if next(calls) == n:
                stop()
            return ask(self, *args, **content)

        monkeypatch.setattr(Api, "_request", interrupted)
        try:
            direct.deploy(bundles[1])
        except KeyboardInterrupt as stopped:
            notes = getattr(stopped, "__notes__", [])
            assert not notes or "The same deploy continues" in notes[0]
        else:
            break
        monkeypatch.setattr(Api, "_request", ask)
        made = direct.deploy(bundles[1])
        assert served(direct) == name_of(made)
        assert len(direct.vertex.models) == 1
        assert len(direct.vertex.endpoints["digits"]["deployedModels"]) == 1
    assert n > 12


def test_without_waiting_it_returns_at_once_and_goes_on(direct, bundles):
    made = direct.deploy(bundles[0], wait=False)
    assert not made.is_complete
    assert len(direct.vertex.writes) == 1
    assert direct.status().is_ready is False
    assert made.wait().is_complete
    assert direct.status().is_ready


def test_what_takes_too_long_is_left_as_it_is(direct, bundles):
    direct.anew(looks=10**6)
    with pytest.raises(
        DeployError, match=r"(?s)endpoint digits is running after .* it is left as it is.*The same deploy continues"
    ):
        direct.deploy(bundles[0], timeout=0.05)
    assert direct.vertex.state()["running"] == ["createEndpoint"]
    assert PLACE["provider"] == "gcp"
