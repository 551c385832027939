"""A script that forgets `if __name__ == "__main__":`."""

from unitrain import UnifiedTrainer
from unitrain.testing import cases
from unitrain.testing.models import loader

UnifiedTrainer("ignite", devices=2, max_epochs=1, enable_progress_bar=False).fit(cases.spec(), loader())
