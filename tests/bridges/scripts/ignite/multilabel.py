"""Multi-label classification: precision, recall and what one can make of them."""

import torch
from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite.metrics import (
    Accuracy,
    EpochMetric,
    Fbeta,
    Frequency,
    MetricsLambda,
    Precision,
    Recall,
    TopKCategoricalAccuracy,
)
from ignite.metrics.metric import BatchWise
from ignite.metrics import Average, GeometricAverage, VariableAccumulation
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def to_labels(output):
    y_pred, y = output
    return (y_pred > 0).long(), y.long()


def hamming(y_preds, y_targets):
    return ((y_preds > 0) != (y_targets > 0)).float().mean().item()


def main():
    torch.manual_seed(66)
    x = torch.randn(140, 7)
    y = (x @ torch.randn(7, 5) + 0.3 * torch.randn(140, 5) > 0).float()
    train = DataLoader(TensorDataset(x[:100], y[:100]), batch_size=25, shuffle=True)
    val = DataLoader(TensorDataset(x[100:], y[100:]), batch_size=16)
    model = nn.Linear(7, 5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.7)
    trainer = create_supervised_trainer(model, optimizer, nn.BCEWithLogitsLoss())

    precision = Precision(output_transform=to_labels, is_multilabel=True, average=False)
    recall = Recall(output_transform=to_labels, is_multilabel=True, average=False)
    f1 = (precision * recall * 2 / (precision + recall + 1e-20)).mean()
    metrics = {
        "accuracy": Accuracy(output_transform=to_labels, is_multilabel=True),
        "precision": MetricsLambda(lambda t: t.mean().item(), precision),
        "recall": MetricsLambda(lambda t: t.mean().item(), recall),
        "f1": f1,
        "hamming": EpochMetric(hamming),
    }
    evaluator = create_supervised_evaluator(model, metrics=metrics)

    Average().attach(trainer, "mean loss")
    GeometricAverage(output_transform=lambda loss: loss + 1).attach(trainer, "geometric")
    Average(output_transform=lambda loss: loss).attach(trainer, "batch loss", usage=BatchWise())
    last = VariableAccumulation(lambda a, x: max(a, x), output_transform=lambda loss: torch.tensor(loss))
    last.attach(trainer, "largest")

    @trainer.on(Events.ITERATION_COMPLETED(event_filter=lambda engine, event: event in (1, 2, 5)))
    def selected(engine):
        print("iteration", engine.state.iteration, f"batch loss {engine.state.metrics['batch loss']:.6f}")

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate(engine):
        evaluator.run(val)
        print({k: round(float(v), 6) for k, v in evaluator.state.metrics.items()})
        print({k: v for k, v in engine.state.metrics.items() if k in ("mean loss", "geometric")})

    with trainer.add_event_handler(Events.ITERATION_STARTED, lambda: None):
        trainer.run(train, max_epochs=3)


if __name__ == "__main__":
    main()
