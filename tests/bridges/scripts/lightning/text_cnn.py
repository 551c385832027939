"""A text CNN with two validation sets."""

import random

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

GOOD = "lovely great superb charming bright fine".split()
BAD = "dull awful boring weak poor bland".split()
FILLER = "the a film plot actor was is really quite and scene very".split()
VOCAB = {word: i + 1 for i, word in enumerate(GOOD + BAD + FILLER)}


def sentence(rng):
    label = rng.randint(0, 1)
    words = [rng.choice(FILLER) for _ in range(rng.randint(4, 9))]
    words.insert(rng.randrange(len(words)), rng.choice(GOOD if label else BAD))
    return words, label


def collate(batch):
    ids = [torch.tensor([VOCAB[w] for w in words]) for words, _ in batch]
    labels = torch.tensor([label for _, label in batch])
    return pad_sequence(ids, batch_first=True), labels


class TextCNN(pl.LightningModule):
    def __init__(self, vocab_size, dim=8, kernel_sizes=(2, 3), num_filters=6):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, dim, padding_idx=0)
        self.convs = nn.ModuleList([nn.Conv1d(dim, num_filters, k) for k in kernel_sizes])
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(num_filters * len(kernel_sizes), 2)

    def forward(self, ids):
        x = self.embedding(ids).transpose(1, 2)
        x = torch.cat([F.relu(conv(x)).amax(dim=2) for conv in self.convs], dim=1)
        return self.fc(self.dropout(x))

    def training_step(self, batch, batch_idx):
        ids, labels = batch
        loss = F.cross_entropy(self(ids), labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(labels))
        return loss

    def validation_step(self, batch, batch_idx, dataloader_idx):
        ids, labels = batch
        logits = self(ids)
        self.log("val_loss", F.cross_entropy(logits, labels), batch_size=len(labels))
        name = ("short", "long")[dataloader_idx]
        self.log(f"acc_{name}", (logits.argmax(1) == labels).float().mean(), add_dataloader_idx=False)

    def on_train_epoch_end(self):
        metrics = self.trainer.callback_metrics
        print({k: round(float(metrics[k]), 6) for k in sorted(metrics)})

    def configure_optimizers(self):
        return torch.optim.Adagrad(self.parameters(), lr=0.1)


def main():
    pl.seed_everything(8)
    rng = random.Random(17)
    train = [sentence(rng) for _ in range(110)]
    short = [sentence(rng) for _ in range(30)]
    long = [(a + b, label) for (a, label), (b, _) in zip(short, train)]
    loaders = [DataLoader(part, batch_size=16, collate_fn=collate) for part in (short, long)]
    trainer = pl.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=pl.loggers.CSVLogger("text"),
        enable_checkpointing=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
    )
    model = TextCNN(len(VOCAB) + 1)
    trainer.fit(model, DataLoader(train, batch_size=16, shuffle=True, collate_fn=collate), loaders)


if __name__ == "__main__":
    main()
