"""Segment boxes into three classes; the confusion matrix tells how well."""

import logging

import torch
from ignite.engine import Engine, Events
from ignite.metrics import ConfusionMatrix, DiceCoefficient, IoU, Loss, mIoU
from ignite.utils import convert_tensor
from torch import nn
from torch.utils.data import DataLoader, Dataset

NUM_CLASSES = 3


class Boxes(Dataset):
    def __init__(self, n, seed):
        self.n, self.seed = n, seed

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        g = torch.Generator().manual_seed(self.seed * 1000 + index)
        mask = torch.zeros(12, 12, dtype=torch.long)
        for label in (1, 2):
            y, x = torch.randint(0, 7, (2,), generator=g).tolist()
            mask[y : y + 5, x : x + 5] = label
        image = mask.float().unsqueeze(0) + 0.3 * torch.randn(1, 12, 12, generator=g)
        return {"image": image, "mask": mask}


class FCN(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()
        )
        self.head = nn.Conv2d(8, NUM_CLASSES, 1)

    def forward(self, x):
        return {"out": self.head(self.body(x))}


def prepare_batch(batch, device, non_blocking=False):
    return tuple(convert_tensor(batch[k], device, non_blocking=non_blocking) for k in ("image", "mask"))


def main():
    torch.manual_seed(23)
    logger = logging.getLogger("segmentation")
    device = torch.device("cpu")
    model = FCN().to(device)
    optimizer = torch.optim.SGD(
        [{"params": model.body.parameters()}, {"params": model.head.parameters(), "lr": 0.2}], lr=0.1
    )
    criterion = nn.CrossEntropyLoss(weight=torch.tensor([0.5, 1.0, 1.0]))
    train_loader = DataLoader(Boxes(32, 1), batch_size=8, shuffle=True)
    val_loader = DataLoader(Boxes(12, 2), batch_size=8)

    def train_update_function(engine, batch):
        model.train()
        x, y = prepare_batch(batch, device)
        y_pred = model(x)["out"]
        loss = criterion(y_pred, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {"supervised loss": loss.item()}

    @torch.no_grad()
    def eval_update_function(engine, batch):
        model.eval()
        x, y = prepare_batch(batch, device)
        return model(x)["out"], y

    trainer = Engine(train_update_function)
    evaluator = Engine(eval_update_function)
    train_evaluator = Engine(eval_update_function)

    for engine in (evaluator, train_evaluator):
        cm = ConfusionMatrix(num_classes=NUM_CLASSES)
        for name, metric in {
            "IoU": IoU(cm),
            "mIoU": mIoU(cm),
            "no background": mIoU(cm, ignore_index=0),
            "dice": DiceCoefficient(cm),
            "loss": Loss(criterion),
        }.items():
            metric.attach(engine, name)

    def run_validation(engine):
        for tag, which, loader in (("train", train_evaluator, train_loader), ("val", evaluator, val_loader)):
            state = which.run(loader)
            metrics = {
                k: [round(v, 5) for v in m.tolist()] if torch.is_tensor(m) and m.dim() else round(float(m), 5)
                for k, m in state.metrics.items()
                if k != "cm"
            }
            print(tag, engine.state.epoch, metrics)
            logger.info("%s %s", tag, metrics)

    trainer.add_event_handler(Events.EPOCH_COMPLETED(every=2) | Events.STARTED, run_validation)
    trainer.run(train_loader, max_epochs=4)


if __name__ == "__main__":
    main()
