"""Deep Q-learning in a corridor: the agent has to walk to its right end."""

import random
from collections import deque, namedtuple

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data.dataset import IterableDataset

Experience = namedtuple("Experience", "state action reward done new_state")


class Corridor:
    length = 6

    def reset(self):
        self.at, self.steps = 0, 0
        return self._state()

    def step(self, action):
        self.at = max(0, self.at + (1 if action == 1 else -1))
        self.steps += 1
        done = self.at == self.length - 1 or self.steps >= 25
        return self._state(), (1.0 if self.at == self.length - 1 else -0.05), done

    def _state(self):
        state = np.zeros(self.length, dtype=np.float32)
        state[self.at] = 1.0
        return state


class ReplayBuffer:
    def __init__(self, capacity):
        self.buffer = deque(maxlen=capacity)

    def append(self, experience):
        self.buffer.append(experience)

    def sample(self, batch_size):
        indices = np.random.choice(len(self.buffer), batch_size, replace=False)
        states, actions, rewards, dones, next_states = zip(*(self.buffer[i] for i in indices))
        return (
            np.array(states),
            np.array(actions),
            np.array(rewards, dtype=np.float32),
            np.array(dones, dtype=bool),
            np.array(next_states),
        )


class RLDataset(IterableDataset):
    def __init__(self, buffer, sample_size=40):
        self.buffer = buffer
        self.sample_size = sample_size

    def __iter__(self):
        states, actions, rewards, dones, new_states = self.buffer.sample(self.sample_size)
        for i in range(len(dones)):
            yield states[i], actions[i], rewards[i], dones[i], new_states[i]


class DQN(pl.LightningModule):
    def __init__(self, batch_size=8, lr=1e-2, gamma=0.95, sync_rate=5, eps_last=40):
        super().__init__()
        self.save_hyperparameters()
        self.env = Corridor()
        self.net = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 2))
        self.target_net = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 2))
        self.buffer = ReplayBuffer(200)
        self.state = self.env.reset()
        self.total_reward = 0
        self.episode_reward = 0
        for _ in range(60):
            self.play_step(epsilon=1.0)

    @torch.no_grad()
    def play_step(self, epsilon):
        if random.random() < epsilon:
            action = random.randrange(2)
        else:
            action = int(self.net(torch.from_numpy(self.state)).argmax())
        new_state, reward, done = self.env.step(action)
        self.buffer.append(Experience(self.state, action, reward, done, new_state))
        self.state = self.env.reset() if done else new_state
        return reward, done

    def forward(self, x):
        return self.net(x)

    def dqn_loss(self, batch):
        states, actions, rewards, dones, next_states = batch
        values = self.net(states).gather(1, actions.long().unsqueeze(-1)).squeeze(-1)
        with torch.no_grad():
            next_values = self.target_net(next_states).max(1)[0]
            next_values[dones] = 0.0
        return nn.functional.mse_loss(values, next_values * self.hparams.gamma + rewards)

    def training_step(self, batch, nb_batch):
        epsilon = max(0.05, 1.0 - self.global_step / self.hparams.eps_last)
        self.log("epsilon", epsilon)
        reward, done = self.play_step(epsilon)
        self.episode_reward += reward
        loss = self.dqn_loss(batch)
        if done:
            self.total_reward = self.episode_reward
            self.episode_reward = 0
        if self.global_step % self.hparams.sync_rate == 0:
            self.target_net.load_state_dict(self.net.state_dict())
        self.log_dict({"reward": reward, "train_loss": loss})
        self.log("total_reward", float(self.total_reward), prog_bar=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.net.parameters(), lr=self.hparams.lr)

    def train_dataloader(self):
        return DataLoader(dataset=RLDataset(self.buffer), batch_size=self.hparams.batch_size)


def main():
    pl.seed_everything(0)
    model = DQN()
    trainer = pl.Trainer(
        max_epochs=8,
        accelerator="cpu",
        logger=pl.loggers.CSVLogger("rl"),
        log_every_n_steps=5,
        enable_progress_bar=False,
        enable_checkpointing=False,
    )
    trainer.fit(model)
    with torch.no_grad():
        print(model(torch.eye(6)).numpy().round(5))


if __name__ == "__main__":
    main()
