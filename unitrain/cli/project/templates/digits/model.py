"""The model. run.yaml sets the arguments of `Net`."""

from torch import Tensor, nn


class Net(nn.Module):
    """A small convolutional network.

    Args:
        width: Number of channels of the first layer.
        dropout: Share of features that are dropped in training.
    """

    def __init__(self, width: int = 16, dropout: float = 0.1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(2 * width * 3 * 3, 10),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Take images (B, 1, 12, 12), return logits (B, 10)."""
        return self.layers(images)
