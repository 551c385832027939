"""One thread for torch: the models are tiny, and pytest-xdist has the cores already."""

import torch

torch.set_num_threads(1)
