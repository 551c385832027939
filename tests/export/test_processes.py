"""Of several processes the first writes, and the others wait for it and know what came of it.

After a fit by FSDP the model and its average are whole again.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "two_processes.py"


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["lightning", "ignite"])
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_the_first_writes_and_the_others_know(backend, strategy, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(SCRIPT)]
    subprocess.run([*command, str(tmp_path), backend, strategy], check=True, timeout=280)
    said = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert said[0]["opset"].startswith("opset 11 was asked for")
    assert said[1]["opset"].startswith("rank 0 could not export: opset 11")
    assert all(one["there"] and one["differences"] == [0.0, 0.0, 0.0] for one in said)
    assert all("in a run" in one["within"] for one in said)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["0.json", "1.json", "ema.pt2", "model.pt2"]
