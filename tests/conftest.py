"""What holds for all tests: one thread for torch, and a Ctrl-C that is heard."""

import signal

import torch

# the models are tiny, and pytest-xdist has the cores already
torch.set_num_threads(1)

# A shell lets its background jobs ignore Ctrl-C, and so do all that they start; a CI may well run there.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
