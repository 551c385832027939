"""Advantage actor-critic on a pole that has to be kept upright."""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.distributions import Categorical
from torch.utils.data import DataLoader, IterableDataset


class Pole:
    def reset(self):
        self.state = (torch.rand(2) - 0.5) * 0.2
        return self.state

    def step(self, action):
        angle, speed = self.state
        speed = speed + 0.1 * angle + (0.05 if action else -0.05)
        self.state = torch.stack([angle + speed, speed])
        return self.state, 1.0, bool(self.state[0].abs() > 1)


class ActorCritic(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 16), nn.Tanh())
        self.actor = nn.Linear(16, 2)
        self.critic = nn.Linear(16, 1)

    def forward(self, x):
        h = self.body(x)
        return Categorical(logits=self.actor(h)), self.critic(h).squeeze(-1)


class Episodes(IterableDataset):
    def __init__(self, play, count):
        self.play = play
        self.count = count

    def __iter__(self):
        for _ in range(self.count):
            yield self.play()


class A2C(LightningModule):
    def __init__(self, gamma=0.97, episodes=6, max_steps=30):
        super().__init__()
        self.env = Pole()
        self.agent = ActorCritic()
        self.gamma, self.episodes, self.max_steps = gamma, episodes, max_steps
        self.lengths = []

    def play(self):
        states, actions, rewards = [], [], []
        state = self.env.reset()
        for _ in range(self.max_steps):
            with torch.no_grad():
                action = self.agent(state)[0].sample()
            states.append(state)
            actions.append(action)
            state, reward, done = self.env.step(action)
            rewards.append(reward)
            if done:
                break
        returns, total = [], 0.0
        for reward in reversed(rewards):
            total = reward + self.gamma * total
            returns.insert(0, total)
        self.lengths.append(len(rewards))
        return torch.stack(states), torch.stack(actions), torch.tensor(returns)

    def training_step(self, batch, batch_idx):
        states, actions, returns = batch
        policy, values = self.agent(states)
        advantage = returns - values
        actor_loss = -(policy.log_prob(actions) * advantage.detach()).mean()
        critic_loss = advantage.pow(2).mean()
        loss = actor_loss + 0.5 * critic_loss - 0.01 * policy.entropy().mean()
        self.log("actor_loss", actor_loss, batch_size=len(states))
        self.log("critic_loss", critic_loss, batch_size=len(states))
        return loss

    def on_train_epoch_end(self):
        recent = self.lengths[-self.episodes :]
        self.print(f"epoch {self.current_epoch}: mean length {sum(recent) / len(recent):.3f}")

    def train_dataloader(self):
        return DataLoader(Episodes(self.play, self.episodes), batch_size=None)

    def configure_optimizers(self):
        optimizer = torch.optim.RMSprop(self.agent.parameters(), lr=5e-3)
        return optimizer


def main():
    seed_everything(12)
    model = A2C()
    trainer = Trainer(
        max_epochs=4,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        gradient_clip_val=1.0,
        gradient_clip_algorithm="norm",
    )
    trainer.fit(model)
    print(sum(model.lengths), trainer.callback_metrics["critic_loss"].item())


if __name__ == "__main__":
    main()
