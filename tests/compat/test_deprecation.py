"""A deprecated name warns where it is used, says what replaces it, and stays as long as the policy promises."""

import pytest

from unitrain.compat.deprecation import Deprecation, deprecated


@deprecated(since="0.2", remove="0.4", instead="new()")
def old(number):
    return number + 1


class Thing:
    @property
    @deprecated(since="0.2", remove="0.4", instead="thing.new")
    def old(self):
        return 3


def test_a_call_warns_at_the_line_of_the_caller():
    with pytest.warns(DeprecationWarning, match="since unitrain 0.2") as caught:
        assert (old(1), Thing().old) == (2, 3)
    function, getter = caught
    assert str(function.message) == "old is deprecated since unitrain 0.2 and will be removed in 0.4. Use new()."
    assert str(getter.message).startswith("Thing.old is deprecated")
    assert {function.filename, getter.filename} == {__file__}


@pytest.mark.parametrize(
    ("since", "remove"),
    [("0.2", "0.4"), ("0.2.7", "0.4.0"), ("0.9", "0.12"), ("0.9", "1.1"), ("0.9", "2.0"), ("1.3", "2.1")],
)
def test_two_minor_releases_are_enough(since, remove):
    assert Deprecation("old", since, remove, "new").remove == remove


@pytest.mark.parametrize(
    ("since", "remove"), [("0.2", "0.2"), ("0.2", "0.3"), ("0.2.0", "0.3.9"), ("0.9", "1.0"), ("1.0", "0.9")]
)
def test_less_is_refused(since, remove):
    with pytest.raises(ValueError, match=f"deprecated in {since}, so it cannot be removed in {remove}: .* at least 2"):
        Deprecation("old", since, remove, "new")
