"""A transformer language model on the characters of a rhyme."""

import math

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset

TEXT = (
    """the cat sat on the mat and looked at the rat, the rat sat on the hat and looked at the bat,
and the bat flew over the mat and the hat and the cat that sat and the rat that looked at that. """
    * 2
)


class CharDataset(Dataset):
    def __init__(self, text, block_size):
        chars = sorted(set(text))
        self.stoi = {c: i for i, c in enumerate(chars)}
        self.itos = {i: c for i, c in enumerate(chars)}
        self.block_size = block_size
        self.data = torch.tensor([self.stoi[c] for c in text])

    def __len__(self):
        return (len(self.data) - 1) // self.block_size

    def __getitem__(self, i):
        start = i * self.block_size
        chunk = self.data[start : start + self.block_size + 1]
        return chunk[:-1], chunk[1:]


class Block(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = nn.MultiheadAttention(dim, heads, dropout=0.1, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim), nn.Dropout(0.1))

    def forward(self, x):
        mask = torch.triu(torch.ones(x.size(1), x.size(1), dtype=torch.bool), diagonal=1)
        h = self.ln1(x)
        x = x + self.attn(h, h, h, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp(self.ln2(x))


class GPT(pl.LightningModule):
    def __init__(self, vocab_size, block_size, dim=16, heads=2, layers=1, lr=5e-3, weight_decay=0.1, warmup=4):
        super().__init__()
        self.save_hyperparameters()
        self.tok = nn.Embedding(vocab_size, dim)
        self.pos = nn.Parameter(torch.zeros(1, block_size, dim))
        self.blocks = nn.Sequential(*[Block(dim, heads) for _ in range(layers)])
        self.head = nn.Linear(dim, vocab_size, bias=False)
        self.apply(self._init_weights)

    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)

    def forward(self, idx):
        return self.head(self.blocks(self.tok(idx) + self.pos[:, : idx.size(1)]))

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = nn.functional.cross_entropy(self(x).flatten(0, 1), y.flatten())
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        decay = [p for p in self.parameters() if p.dim() >= 2]
        no_decay = [p for p in self.parameters() if p.dim() < 2]
        optimizer = torch.optim.AdamW(
            [{"params": decay, "weight_decay": self.hparams.weight_decay}, {"params": no_decay, "weight_decay": 0.0}],
            lr=self.hparams.lr,
            betas=(0.9, 0.95),
        )
        total = self.trainer.estimated_stepping_batches

        def lr_lambda(step):
            if step < self.hparams.warmup:
                return (step + 1) / self.hparams.warmup
            progress = (step - self.hparams.warmup) / max(1, total - self.hparams.warmup)
            return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress))

        return [optimizer], [{"scheduler": LambdaLR(optimizer, lr_lambda), "interval": "step", "name": "cosine"}]

    @torch.no_grad()
    def generate(self, idx, n):
        for _ in range(n):
            logits = self(idx[:, -self.hparams.block_size :])[:, -1]
            idx = torch.cat([idx, torch.multinomial(logits.softmax(-1), 1)], dim=1)
        return idx


def main():
    pl.seed_everything(1337)
    dataset = CharDataset(TEXT, block_size=12)
    loader = DataLoader(dataset, batch_size=4, shuffle=True)
    model = GPT(len(dataset.stoi), 12)
    trainer = pl.Trainer(
        max_epochs=3,
        accelerator="cpu",
        accumulate_grad_batches=3,
        gradient_clip_val=1.0,
        logger=CSVLogger("lm"),
        callbacks=[LearningRateMonitor(logging_interval="step")],
        log_every_n_steps=1,
        enable_progress_bar=False,
    )
    trainer.fit(model, loader)
    model.eval()
    out = model.generate(torch.tensor([[dataset.stoi["t"]]]), 20)[0]
    print(repr("".join(dataset.itos[int(i)] for i in out)))
    print(trainer.global_step, trainer.logged_metrics["loss"].item())


if __name__ == "__main__":
    main()
