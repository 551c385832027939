"""A transformer language model with warm-up, clipping and gradient accumulation."""

import math

import torch
import torch.nn as nn
from ignite.engine import Engine, Events
from ignite.handlers import PiecewiseLinear, create_lr_scheduler_with_warmup, CosineAnnealingScheduler, ProgressBar
from ignite.metrics import Loss, RunningAverage
from torch.utils.data import DataLoader, TensorDataset

TEXT = "she sells sea shells on the sea shore, the shells she sells are sea shells for sure. " * 4
CONFIG = {"context": 10, "batch_size": 4, "accumulate": 2, "lr": 0.01, "epochs": 2, "clip": 0.5, "seed": 19}


class LM(nn.Module):
    def __init__(self, vocab, context, dim=16):
        super().__init__()
        self.embedding = nn.Embedding(vocab, dim)
        self.position = nn.Parameter(torch.zeros(context, dim))
        layer = nn.TransformerEncoderLayer(dim, 2, 2 * dim, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(dim, vocab)

    def forward(self, x):
        mask = nn.Transformer.generate_square_subsequent_mask(x.size(1))
        return self.head(self.encoder(self.embedding(x) + self.position[: x.size(1)], mask=mask, is_causal=True))


def get_loaders(config):
    chars = sorted(set(TEXT))
    ids = torch.tensor([chars.index(c) for c in TEXT])
    windows = ids[: len(ids) // (config["context"] + 1) * (config["context"] + 1)].view(-1, config["context"] + 1)
    train = TensorDataset(windows[:24, :-1], windows[:24, 1:])
    val = TensorDataset(windows[24:, :-1], windows[24:, 1:])
    return (
        DataLoader(train, config["batch_size"], shuffle=True),
        DataLoader(val, config["batch_size"]),
        len(chars),
    )


def loss_fn(logits, target):
    return nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten())


def create_trainer(model, optimizer, config):
    def update(engine, batch):
        model.train()
        x, y = batch
        loss = loss_fn(model(x), y) / config["accumulate"]
        loss.backward()
        norm = None
        if engine.state.iteration % config["accumulate"] == 0:
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config["clip"]).item()
            optimizer.step()
            optimizer.zero_grad()
        return {"batch loss": loss.item() * config["accumulate"], "norm": norm}

    return Engine(update)


def create_evaluator(model):
    @torch.no_grad()
    def inference(engine, batch):
        model.eval()
        x, y = batch
        return model(x), y

    evaluator = Engine(inference)
    Loss(loss_fn).attach(evaluator, "loss")
    return evaluator


def main(config):
    torch.manual_seed(config["seed"])
    train_loader, val_loader, vocab = get_loaders(config)
    model = LM(vocab, config["context"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    trainer = create_trainer(model, optimizer, config)
    evaluator = create_evaluator(model)

    iterations = config["epochs"] * 8
    cosine = CosineAnnealingScheduler(optimizer, "lr", config["lr"], config["lr"] / 10, iterations)
    scheduler = create_lr_scheduler_with_warmup(
        cosine, warmup_start_value=0.0, warmup_end_value=config["lr"], warmup_duration=4
    )
    trainer.add_event_handler(Events.ITERATION_STARTED, scheduler)
    decay = PiecewiseLinear(optimizer, "weight_decay", milestones_values=[(0, 0.0), (8, 0.1), (16, 0.05)])
    trainer.add_event_handler(Events.ITERATION_COMPLETED, decay)
    RunningAverage(output_transform=lambda out: out["batch loss"]).attach(trainer, "loss")
    ProgressBar(desc="train", persist=False).attach(trainer, ["loss"])

    @trainer.on(Events.ITERATION_COMPLETED(every=4) | Events.EPOCH_COMPLETED)
    def log(engine):
        group = optimizer.param_groups[0]
        print(
            f"{engine.state.iteration} {engine.state.metrics['loss']:.6f} lr {group['lr']:.6g} wd {group['weight_decay']:.6g}"
        )

    @trainer.on(Events.EPOCH_COMPLETED | Events.COMPLETED)
    def validate(engine):
        loss = evaluator.run(val_loader).metrics["loss"]
        print(f"validation loss {loss:.6f} perplexity {math.exp(loss):.4f}")

    trainer.run(train_loader, max_epochs=config["epochs"], epoch_length=8)


if __name__ == "__main__":
    main(CONFIG)
