"""A small DCGAN on 8x8 pictures."""

import os
import warnings

import torch
import torch.nn as nn
import torch.optim as optim
from ignite.engine import Engine, Events
from ignite.handlers import ModelCheckpoint, Timer
from ignite.handlers.tqdm_logger import ProgressBar
from ignite.metrics import RunningAverage
from torch.utils.data import DataLoader, TensorDataset

CKPT_PREFIX = "networks"


class Generator(nn.Module):
    def __init__(self, z_dim, nf):
        super().__init__()
        self.net = nn.Sequential(
            nn.ConvTranspose2d(z_dim, 2 * nf, 4, 1, 0, bias=False),
            nn.BatchNorm2d(2 * nf),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(2 * nf, 1, 4, 2, 1, bias=False),
            nn.Tanh(),
        )
        weights_init(self)

    def forward(self, x):
        return self.net(x)


class Discriminator(nn.Module):
    def __init__(self, nf):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, nf, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(nf, 1, 4, 1, 0, bias=False),
            nn.Sigmoid(),
        )
        weights_init(self)

    def forward(self, x):
        return self.net(x).view(x.size(0), -1).squeeze(1)


def weights_init(net):
    for m in net.modules():
        if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)):
            m.weight.data.normal_(0.0, 0.02)
        elif isinstance(m, nn.BatchNorm2d):
            m.weight.data.normal_(1.0, 0.02)
            m.bias.data.fill_(0)


def pictures(n):
    rows = torch.arange(8.0).view(1, 8, 1) + torch.rand(n, 1, 1) * 6
    return torch.cos(rows).expand(n, 8, 8).unsqueeze(1).contiguous()


def main(seed=7, batch_size=16, z_dim=8, lr=2e-3, beta_1=0.5, epochs=3, output_dir="gan_output"):
    torch.manual_seed(seed)
    device = torch.device("cpu")
    loader = DataLoader(TensorDataset(pictures(100)), batch_size=batch_size, shuffle=True, drop_last=True)
    netG, netD = Generator(z_dim, 4).to(device), Discriminator(4).to(device)
    bce = nn.BCELoss()
    optimizerG = optim.Adam(netG.parameters(), lr=lr, betas=(beta_1, 0.999))
    optimizerD = optim.Adam(netD.parameters(), lr=lr, betas=(beta_1, 0.999))
    real_labels = torch.ones(batch_size)
    fake_labels = torch.zeros(batch_size)
    fixed_noise = torch.randn(batch_size, z_dim, 1, 1)

    def get_noise():
        return torch.randn(batch_size, z_dim, 1, 1, device=device)

    def step(engine, batch):
        (real,) = batch
        netD.zero_grad()
        output = netD(real)
        errD_real = bce(output, real_labels)
        D_x = output.mean().item()
        errD_real.backward()
        fake = netG(get_noise())
        output = netD(fake.detach())
        errD_fake = bce(output, fake_labels)
        D_G_z1 = output.mean().item()
        errD_fake.backward()
        optimizerD.step()
        netG.zero_grad()
        output = netD(fake)
        errG = bce(output, real_labels)
        errG.backward()
        optimizerG.step()
        return {"errD": (errD_real + errD_fake).item(), "errG": errG.item(), "D_x": D_x, "D_G_z1": D_G_z1}

    trainer = Engine(step)
    checkpoint_handler = ModelCheckpoint(output_dir, CKPT_PREFIX, n_saved=2, require_empty=False)
    timer = Timer(average=True)

    monitoring_metrics = ["errD", "errG", "D_x", "D_G_z1"]
    RunningAverage(alpha=0.98, output_transform=lambda x: x["errD"]).attach(trainer, "errD")
    RunningAverage(alpha=0.98, output_transform=lambda x: x["errG"]).attach(trainer, "errG")
    RunningAverage(alpha=0.98, output_transform=lambda x: x["D_x"]).attach(trainer, "D_x")
    RunningAverage(alpha=0.98, output_transform=lambda x: x["D_G_z1"]).attach(trainer, "D_G_z1")
    pbar = ProgressBar()
    pbar.attach(trainer, metric_names=monitoring_metrics)

    @trainer.on(Events.ITERATION_COMPLETED(every=2))
    def print_logs(engine):
        fname = os.path.join(output_dir, "logs.tsv")
        columns = ["iteration"] + list(engine.state.metrics.keys())
        values = [str(engine.state.iteration)] + [str(round(v, 6)) for v in engine.state.metrics.values()]
        with open(fname, "a") as f:
            if f.tell() == 0:
                print("\t".join(columns), file=f)
            print("\t".join(values), file=f)

    @trainer.on(Events.EPOCH_COMPLETED)
    def save_fake_example(engine):
        fake = netG(fixed_noise)
        path = os.path.join(output_dir, f"fake_sample_{engine.state.epoch:04d}.pt")
        torch.save(fake.detach(), path)

    trainer.add_event_handler(
        event_name=Events.EPOCH_COMPLETED, handler=checkpoint_handler, to_save={"netG": netG, "netD": netD}
    )
    timer.attach(
        trainer,
        start=Events.EPOCH_STARTED,
        resume=Events.ITERATION_STARTED,
        pause=Events.ITERATION_COMPLETED,
        step=Events.ITERATION_COMPLETED,
    )

    @trainer.on(Events.EPOCH_COMPLETED)
    def print_times(engine):
        print(f"Epoch {engine.state.epoch} done, timed: {timer.value() > 0}")
        timer.reset()

    @trainer.on(Events.EXCEPTION_RAISED)
    def handle_exception(engine, e):
        if isinstance(e, KeyboardInterrupt) and engine.state.iteration > 1:
            engine.terminate()
            warnings.warn("KeyboardInterrupt caught. Exiting gracefully.")
            checkpoint_handler(engine, {"netG_exception": netG, "netD_exception": netD})
        else:
            raise e

    trainer.run(loader, epochs)


if __name__ == "__main__":
    main()
