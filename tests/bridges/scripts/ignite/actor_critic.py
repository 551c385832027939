"""Actor-critic with an endless data source: a time step is an iteration, an episode is an epoch."""

from itertools import count

import torch
import torch.nn.functional as F
from ignite.engine import Engine, Events
from torch import nn, optim
from torch.distributions import Categorical

SavedAction = tuple


class Balance:
    """Keep a value near zero by pushing it."""

    def reset(self):
        self.value, self.speed = float(torch.randn(1)) * 0.1, 0.0
        return self._observe()

    def step(self, action):
        self.speed += 0.08 if action == 1 else -0.08
        self.value += self.speed + 0.05 * self.value
        return self._observe(), 1.0, abs(self.value) > 1.0

    def _observe(self):
        return torch.tensor([self.value, self.speed])


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.affine1 = nn.Linear(2, 16)
        self.action_head = nn.Linear(16, 2)
        self.value_head = nn.Linear(16, 1)
        self.saved_actions = []
        self.rewards = []

    def forward(self, x):
        x = F.relu(self.affine1(x))
        return F.softmax(self.action_head(x), dim=-1), self.value_head(x)


def select_action(policy, observation):
    probs, value = policy(observation)
    m = Categorical(probs)
    action = m.sample()
    policy.saved_actions.append((m.log_prob(action), value))
    return action.item()


def finish_episode(policy, optimizer, gamma):
    R = 0
    policy_losses, value_losses, returns = [], [], []
    for r in policy.rewards[::-1]:
        R = r + gamma * R
        returns.insert(0, R)
    returns = torch.tensor(returns)
    returns = (returns - returns.mean()) / (returns.std() + 1e-8)
    for (log_prob, value), r in zip(policy.saved_actions, returns):
        policy_losses.append(-log_prob * (r - value.item()))
        value_losses.append(F.smooth_l1_loss(value, r.view(1)))
    optimizer.zero_grad()
    loss = torch.stack(policy_losses).sum() + torch.stack(value_losses).sum()
    loss.backward()
    optimizer.step()
    del policy.rewards[:]
    del policy.saved_actions[:]


def main():
    torch.manual_seed(543)
    env = Balance()
    policy = Policy()
    optimizer = optim.Adam(policy.parameters(), lr=0.03)
    timesteps = []

    def run_single_timestep(engine, timestep):
        observation = engine.state.observation
        action = select_action(policy, observation)
        engine.state.observation, reward, done = env.step(action)
        policy.rewards.append(reward)
        engine.state.ep_reward += reward
        if done:
            engine.terminate_epoch()
            engine.state.timestep = timestep

    trainer = Engine(run_single_timestep)
    trainer.state.running_reward = 10

    @trainer.on(Events.EPOCH_STARTED)
    def reset_environment_state(engine):
        engine.state.observation = env.reset()
        engine.state.ep_reward = 0
        engine.state.timestep = 0

    @trainer.on(Events.EPOCH_COMPLETED)
    def update_model(engine):
        t = len(policy.rewards)
        timesteps.append(t)
        engine.state.running_reward = engine.state.running_reward * 0.9 + t * 0.1
        finish_episode(policy, optimizer, 0.99)

    @trainer.on(Events.EPOCH_COMPLETED(every=4))
    def log_episode(engine):
        print(f"Episode {engine.state.epoch}\tlast {engine.state.timestep}\taverage {engine.state.running_reward:.4f}")

    @trainer.on(Events.EPOCH_COMPLETED)
    def should_finish_training(engine):
        if engine.state.running_reward > 30:
            print("Solved!")
            engine.should_terminate = True

    trainer.run(count(), max_epochs=16, epoch_length=40)
    print(timesteps)


if __name__ == "__main__":
    main()
