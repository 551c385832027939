"""The model. run.yaml sets the arguments of `Net`."""

from torch import Tensor, nn

from data import ALPHABET


class Net(nn.Module):
    """A recurrent network that predicts the next character of a text.

    Args:
        width: Size of a character's embedding, and of the network's state.
        vocabulary: Number of characters.
    """

    def __init__(self, width: int = 96, vocabulary: int = len(ALPHABET)) -> None:
        super().__init__()
        self.characters = nn.Embedding(vocabulary, width)
        self.states = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, codes: Tensor) -> Tensor:
        """Take the codes of characters (B, T), return the logits of the next ones (B, vocabulary, T)."""
        states, _ = self.states(self.characters(codes))
        return self.head(states).transpose(1, 2)
