"""Mixed precision on a device is what a loop by hand does with autocast and torch's GradScaler, in every bit."""

import pytest
import torch

from tests.gpu.training import by_hand, loader, seeded, spec, trainer
from unitrain import Event
from unitrain.testing.trace import differences

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("model", ["mlp", "cnn", "transformer", "tied"])
def test_it_is_the_loop_by_hand(model, precision, clip, framework, device):
    own = seeded(model)
    torch.use_deterministic_algorithms(mode=True)
    try:
        scales = by_hand(own, device, precision, clip)
    finally:
        torch.use_deterministic_algorithms(mode=False)
    trained, seen = spec(model), []
    made = trainer(framework, device, precision=precision, gradient_clip_val=clip)
    made.on(Event.BATCH_END, lambda run: seen.append(1.0 if run.scaler is None else run.scaler.get_scale()))
    made.fit(trained, loader(device))
    assert not differences(own.state_dict(), trained.model.state_dict())
    assert seen == scales


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "64-true"])
def test_a_true_precision_converts_model_and_batches_on_the_device(precision, framework, device):
    wanted = {"bf16-true": torch.bfloat16, "16-true": torch.float16, "64-true": torch.float64}[precision]
    seen = set()

    def step(model, batch):
        output = model(batch[0])
        seen.update((one.dtype, one.device) for one in (batch[0], output, torch.ones((), device=device)))
        return torch.nn.functional.cross_entropy(output, batch[1])

    own = spec(training_step=step)
    trainer(framework, device, precision=precision).fit(own, loader(device))
    assert seen == {(wanted, device)}
    assert {(one.dtype, one.device) for one in own.model.parameters()} == {(wanted, device)}


def test_a_gradient_that_is_not_finite_halves_the_scale_and_leaves_the_weights(framework, device):
    own, scales, weights = spec(), [], []
    made = trainer(framework, device, precision="16-mixed", max_epochs=1)

    @made.on(Event.BACKWARD_END(once=2))
    def poison(run):
        next(run.model.parameters()).grad[0, 0] = torch.inf

    @made.on(Event.BATCH_END)
    def note(run):
        scales.append(run.scaler.get_scale())
        weights.append([one.detach().clone() for one in run.model.parameters()])
        assert run.scaler.scale(torch.ones((), device=device)).device == device

    made.fit(own, loader(device))
    assert scales[:3] == [65536.0, 32768.0, 32768.0]
    assert all(torch.equal(one, other) for one, other in zip(weights[0], weights[1], strict=True))
    assert not all(torch.equal(one, other) for one, other in zip(weights[1], weights[2], strict=True))
