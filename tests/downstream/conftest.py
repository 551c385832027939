"""What holds for all cases: nothing is downloaded, and a run's files go to a folder of the test."""

import os
import socket

import pytest

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")


def _refuse(self, address):
    raise AssertionError(f"a case asks for {address}")


@pytest.fixture(autouse=True)
def by_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket.socket, "connect", _refuse)
