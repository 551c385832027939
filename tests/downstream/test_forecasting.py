"""pytorch-forecasting: its models are LightningModules, which run unchanged on every backend."""

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import torch
from pytorch_forecasting import NBeats, TemporalFusionTransformer, TimeSeriesDataSet
from pytorch_forecasting.metrics import QuantileLoss

from tests.downstream.same import BACKENDS, QUIET, assert_equal, left, seed
from unitrain import UnifiedTrainer

OPTIONS = {"max_epochs": 2, "gradient_clip_val": 0.1, **QUIET}
NATIVE = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}


def series(**options):
    times = np.arange(30)
    parts = [
        pd.DataFrame({"time": times, "value": np.sin(times / 3 + shift) + 2, "group": str(shift)}) for shift in range(3)
    ]
    return TimeSeriesDataSet(
        pd.concat(parts, ignore_index=True),
        time_idx="time",
        target="value",
        group_ids=["group"],
        max_encoder_length=8,
        max_prediction_length=3,
        time_varying_unknown_reals=["value"],
        **options,
    )


def transformer(data):
    return TemporalFusionTransformer.from_dataset(
        data,
        hidden_size=4,
        attention_head_size=1,
        hidden_continuous_size=4,
        dropout=0.1,
        loss=QuantileLoss([0.1, 0.5, 0.9]),
        output_size=3,
        learning_rate=0.01,
        log_interval=-1,
        optimizer="adam",
    )


def beats(data):
    return NBeats.from_dataset(
        data, learning_rate=0.01, widths=[8, 8], num_blocks=[1, 1], log_interval=-1, optimizer="adam"
    )


CASES = {"TemporalFusionTransformer": (transformer, {"add_relative_time_idx": True}), "NBeats": (beats, {})}


def case(name):
    make, options = CASES[name]
    seed()
    data = series(**options)
    model = make(data)
    return model, data.to_dataloader(train=True, batch_size=16), data.to_dataloader(train=False, batch_size=16)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("framework", BACKENDS)
def test_a_model_trains_as_with_its_own_trainer(framework, name, tmp_path):
    model, train, val = case(name)
    trainer = pl.Trainer(default_root_dir=tmp_path, **OPTIONS, **NATIVE)
    trainer.fit(model, train, val)
    wanted = {**left(model), "metrics": {key: value.item() for key, value in trainer.callback_metrics.items()}}
    assert wanted["metrics"]
    model, train, val = case(name)
    unified = UnifiedTrainer(framework, default_root_dir=tmp_path, native={"lightning": NATIVE}, **OPTIONS)
    unified.fit(model, train, val)
    metrics = {key: value.item() for key, value in unified.foreign_trainer.callback_metrics.items()}
    assert_equal(wanted, {**left(model), "metrics": metrics}, framework)
    assert torch.isfinite(torch.tensor(list(metrics.values()))).all()
