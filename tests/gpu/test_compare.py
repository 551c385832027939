"""``unitrain.compare`` on a device: the three backends have the same bits in each step, and a difference is found."""

import pytest

import unitrain
from tests.gpu import programs
from tests.gpu.training import options

FRAMEWORKS = ("reference", "ignite", "lightning")


@pytest.fixture(autouse=True)
def importable(monkeypatch, request):
    """Let the processes of the sides import the programs."""
    monkeypatch.syspath_prepend(str(request.config.rootpath))
    monkeypatch.setenv("PYTHONPATH", f"{request.config.rootpath}:{request.config.rootpath / 'adapters'}")


@pytest.mark.parametrize("program", [programs.cnn, programs.transformer])
def test_three_backends_are_equal_on_a_device(program, device):
    result = unitrain.compare(program, frameworks=FRAMEWORKS, trainer=options(device, max_epochs=1))
    assert result.equal, str(result)
    assert result.steps == 6


def test_another_draw_on_the_device_is_found(device):
    """Dropout draws on the device; one draw more before it is a difference of the first step."""
    result = unitrain.compare(
        programs.transformer,
        programs.transformer_after_a_draw,
        frameworks=["reference"],
        trainer=options(device, max_epochs=1),
    )
    assert not result.equal
    assert result.difference.step == 1
