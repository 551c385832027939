"""Q-learning on a slippery grid; an episode is a batch and the custom events tell of its end."""

import random
from collections import deque

import torch
import torch.nn.functional as F
from ignite.engine import Engine, EventEnum, Events
from torch import nn


class EpisodeEvents(EventEnum):
    EPISODE_COMPLETED = "episode_completed"
    GOAL_REACHED = "goal_reached"


class Grid:
    size = 3
    moves = ((0, 1), (1, 0), (0, -1), (-1, 0))

    def __init__(self, rng):
        self.rng = rng

    def reset(self):
        self.at, self.steps = (0, 0), 0
        return self.encode()

    def encode(self):
        state = torch.zeros(self.size * self.size)
        state[self.at[0] * self.size + self.at[1]] = 1
        return state

    def step(self, action):
        if self.rng.random() < 0.1:
            action = self.rng.randrange(4)
        dy, dx = self.moves[action]
        y = min(max(self.at[0] + dy, 0), self.size - 1)
        x = min(max(self.at[1] + dx, 0), self.size - 1)
        self.at = (y, x)
        self.steps += 1
        goal = self.at == (2, 2)
        return self.encode(), (1.0 if goal else -0.02), goal, goal or self.steps >= 20


class QNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(9, 16), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, x):
        return self.layers(x)


def main(episodes=8, gamma=0.9, batch_size=16):
    torch.manual_seed(0)
    rng = random.Random(0)
    env = Grid(rng)
    policy, target = QNet(), QNet()
    target.load_state_dict(policy.state_dict())
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.01)
    memory = deque(maxlen=500)

    def learn():
        batch = rng.sample(list(memory), batch_size)
        states, actions, rewards, nexts, dones = zip(*batch)
        q = policy(torch.stack(states)).gather(1, torch.tensor(actions).view(-1, 1)).squeeze(1)
        with torch.no_grad():
            best = target(torch.stack(nexts)).max(1).values * (1 - torch.tensor(dones).float())
        loss = F.smooth_l1_loss(q, torch.tensor(rewards) + gamma * best)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(policy.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    def run_episode(engine, episode):
        state, total, losses = env.reset(), 0.0, []
        epsilon = max(0.1, 1.0 - engine.state.iteration / 20)
        while True:
            if rng.random() < epsilon:
                action = rng.randrange(4)
            else:
                with torch.no_grad():
                    action = int(policy(state).argmax())
            new_state, reward, goal, done = env.step(action)
            memory.append((state, action, reward, new_state, goal))
            state = new_state
            total += reward
            if len(memory) >= batch_size:
                losses.append(learn())
            if done:
                break
        engine.state.episode_reward = total
        engine.state.episode += 1
        if goal:
            engine.fire_event(EpisodeEvents.GOAL_REACHED)
        engine.fire_event(EpisodeEvents.EPISODE_COMPLETED)
        return sum(losses) / max(1, len(losses))

    trainer = Engine(run_episode)
    trainer.register_events(*EpisodeEvents, event_to_attr={EpisodeEvents.EPISODE_COMPLETED: "episode"})
    running = {"reward": 0.0, "goals": 0}

    @trainer.on(Events.STARTED)
    def initialize(engine):
        engine.state.episode_reward = 0.0

    @trainer.on(EpisodeEvents.EPISODE_COMPLETED)
    def update_reward(engine):
        running["reward"] = 0.9 * running["reward"] + 0.1 * engine.state.episode_reward

    @trainer.on(EpisodeEvents.GOAL_REACHED)
    def count_goals():
        running["goals"] += 1

    @trainer.on(EpisodeEvents.EPISODE_COMPLETED(every=3))
    def sync_target():
        target.load_state_dict(policy.state_dict())

    @trainer.on(Events.ITERATION_COMPLETED(every=2))
    def log(engine):
        print(f"episode {engine.state.iteration} running {running['reward']:.6f} loss {engine.state.output:.6f}")

    trainer.run(range(episodes), max_epochs=1)
    print("goals", running["goals"], "memory", len(memory))


if __name__ == "__main__":
    main()
