"""Hugging Face transformers: tiny models from a config, with tokens made on the spot."""

from functools import partial

import pytest
import torch
from transformers import (
    BatchEncoding,
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    get_linear_schedule_with_warmup,
)

from tests.downstream.same import check_same
from unitrain import LRSchedule, TrainSpec, metric

SIZES = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def batches(count=4, labels=2):
    made = []
    for _ in range(count):
        ids = torch.randint(0, 50, (8, 6))
        made.append(
            BatchEncoding({"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.sum(1) % labels})
        )
    return made


def of_bert(step, validation=None, **more):
    model = BertForSequenceClassification(BertConfig(**SIZES, num_labels=2))
    warm_up = partial(get_linear_schedule_with_warmup, num_warmup_steps=2, num_training_steps=8)
    spec = TrainSpec(
        model=model,
        optimizer=partial(torch.optim.AdamW, lr=1e-3),
        lr_scheduler=LRSchedule(warm_up, interval="step"),
        training_step=step,
        validation_step=validation,
        **more,
    )
    return spec, batches(), batches(2)


def measured(model, batch):
    given = model(**batch)
    return {"loss": given.loss, "output": given.logits, "target": batch["labels"]}


ACCURACY = {"acc": metric("accuracy", num_classes=2)}


@pytest.mark.parametrize(
    "options",
    [{}, {"precision": "bf16-mixed", "accumulate_grad_batches": 2, "gradient_clip_val": 1.0}],
    ids=["plain", "bf16-mixed, accumulated, clipped"],
)
def test_bert_with_warm_up_and_accuracy(options):
    made = check_same(lambda: of_bert(measured, measured, metrics=ACCURACY), **options)
    assert 0 <= made["metrics"]["val/acc"] <= 1


def test_a_step_that_returns_the_model_output():
    def step(model, batch):
        return model(**batch)

    assert set(check_same(lambda: of_bert(step, step))["metrics"]) == {"train/loss", "val/loss"}


def test_gpt2_with_tied_weights():
    def case():
        model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=8, n_embd=16, n_layer=2, n_head=2))

        def step(model, batch):
            return model(input_ids=batch["input_ids"], labels=batch["input_ids"]).loss

        spec = TrainSpec(
            model=model,
            optimizer=partial(torch.optim.AdamW, lr=1e-3),
            training_step=step,
            validation_step=lambda model, batch: {"loss": step(model, batch)},
        )
        return spec, batches(), batches(2)

    made = check_same(case)
    assert torch.equal(made["weights"]["lm_head.weight"], made["weights"]["transformer.wte.weight"])
