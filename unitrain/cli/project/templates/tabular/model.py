"""The model. run.yaml sets the arguments of `Net`."""

from itertools import pairwise

from torch import Tensor, nn


class Net(nn.Module):
    """A multilayer perceptron for one number.

    Args:
        features: Number of columns of the input.
        width: Number of units of a hidden layer.
        depth: Number of hidden layers.
    """

    def __init__(self, features: int, width: int = 64, depth: int = 2) -> None:
        super().__init__()
        sizes = [features] + [width] * depth
        hidden = [nn.Sequential(nn.Linear(one, other), nn.ReLU()) for one, other in pairwise(sizes)]
        self.layers = nn.Sequential(*hidden, nn.Linear(sizes[-1], 1))

    def forward(self, rows: Tensor) -> Tensor:
        """Take rows (B, features), return predictions (B,)."""
        return self.layers(rows).squeeze(1)
