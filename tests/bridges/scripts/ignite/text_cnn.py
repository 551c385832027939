"""A text CNN: reviews of made-up words, three evaluators' worth of metrics."""

from functools import partial

import torch
from ignite.contrib.handlers.tqdm_logger import ProgressBar
from ignite.engine import Engine, Events
from ignite.handlers import EarlyStopping
from ignite.metrics import Accuracy, Loss, RunningAverage
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader


class TextCNN(nn.Module):
    def __init__(self, vocab_size, embedding_dim, kernel_sizes, num_filters, d_prob):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_dim, padding_idx=0)
        self.conv = nn.ModuleList([nn.Conv1d(embedding_dim, num_filters, k, stride=1) for k in kernel_sizes])
        self.dropout = nn.Dropout(d_prob)
        self.fc = nn.Linear(len(kernel_sizes) * num_filters, 1)

    def forward(self, x):
        x = self.embedding(x).transpose(1, 2)
        x = [F.relu(conv(x)) for conv in self.conv]
        x = [F.max_pool1d(c, c.size(-1)).squeeze(dim=-1) for c in x]
        x = self.fc(self.dropout(torch.cat(x, dim=1)))
        return torch.sigmoid(x).squeeze()


def reviews(n, generator):
    out = []
    for _ in range(n):
        label = int(torch.randint(0, 2, (1,), generator=generator))
        words = torch.randint(4, 30, (int(torch.randint(5, 10, (1,), generator=generator)),), generator=generator)
        words[len(words) // 2] = 1 + label
        out.append((words, float(label)))
    return out


def collate(batch):
    return pad_sequence([words for words, _ in batch], batch_first=True), torch.tensor([y for _, y in batch])


def thresholded_output_transform(output):
    y_pred, y = output
    return torch.round(y_pred), y


torch.manual_seed(2)
generator = torch.Generator().manual_seed(6)
train_iterator = DataLoader(reviews(100, generator), batch_size=20, shuffle=True, collate_fn=collate)
valid_iterator = DataLoader(reviews(40, generator), batch_size=20, collate_fn=collate)
model = TextCNN(vocab_size=30, embedding_dim=8, kernel_sizes=[2, 3], num_filters=6, d_prob=0.3)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
criterion = nn.BCELoss()


def process_function(engine, batch):
    model.train()
    optimizer.zero_grad()
    x, y = batch
    loss = criterion(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.item()


def eval_function(engine, batch):
    model.eval()
    with torch.no_grad():
        x, y = batch
        return model(x), y


trainer = Engine(process_function)
train_evaluator = Engine(eval_function)
validation_evaluator = Engine(eval_function)
RunningAverage(output_transform=lambda x: x).attach(trainer, "loss")
for evaluator in (train_evaluator, validation_evaluator):
    Accuracy(output_transform=thresholded_output_transform).attach(evaluator, "accuracy")
    Loss(criterion).attach(evaluator, "bce")
pbar = ProgressBar(persist=True, bar_format="")
pbar.attach(trainer, ["loss"])


def score_function(engine):
    return -engine.state.metrics["bce"]


handler = EarlyStopping(patience=5, score_function=score_function, trainer=trainer)
validation_evaluator.add_event_handler(Events.COMPLETED, handler)


def log_results(engine, evaluator, iterator, *, title):
    evaluator.run(iterator)
    metrics = evaluator.state.metrics
    pbar.log_message(f"{title} - Epoch: {engine.state.epoch}")
    print(f"{title} Avg accuracy: {metrics['accuracy']:.4f} Avg loss: {metrics['bce']:.6f}")


trainer.add_event_handler(Events.EPOCH_COMPLETED, log_results, train_evaluator, train_iterator, title="Training")
trainer.add_event_handler(
    Events.EPOCH_COMPLETED,
    partial(log_results, evaluator=validation_evaluator, iterator=valid_iterator, title="Validation"),
)
removable = trainer.add_event_handler(
    Events.ITERATION_STARTED(once=3), lambda engine: print("third", engine.state.iteration)
)


@trainer.on(Events.EPOCH_COMPLETED(once=2))
def unfreeze():
    for group in optimizer.param_groups:
        group["lr"] *= 0.5


trainer.run(train_iterator, max_epochs=4)
print(removable.event_name.name, trainer.has_event_handler(unfreeze), optimizer.param_groups[0]["lr"])
