"""A bandit and its agent, each a class; the engine's step is a method that asks the agent to learn."""

import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, DiskSaver
from ignite.metrics import RunningAverage
from torch import nn


class Bandit:
    def __init__(self, arms):
        self.arms = arms

    def contexts(self, n):
        return torch.randn(n, self.arms)

    def rewards(self, contexts, actions):
        best = contexts.argmax(dim=1)
        return (actions == best).float() - 0.1


class PolicyGradientAgent:
    def __init__(self, arms, lr=0.05, entropy=0.01):
        self.network = nn.Sequential(nn.Linear(arms, 12), nn.Tanh(), nn.Linear(12, arms))
        self.optim = torch.optim.Adam(self.network.parameters(), lr=lr)
        self.entropy = entropy
        self.baseline = 0.0

    def act(self, contexts):
        return torch.distributions.Categorical(logits=self.network(contexts))

    def learn(self, policy, actions, rewards):
        advantage = rewards - self.baseline
        loss = -(policy.log_prob(actions) * advantage).mean() - self.entropy * policy.entropy().mean()
        self.optim.zero_grad()
        loss.backward()
        self.optim.step()
        self.baseline = 0.9 * self.baseline + 0.1 * rewards.mean().item()
        return loss.item()

    def save_to(self):
        return {"network": self.network, "optim": self.optim}


class Experiment:
    def __init__(self, arms=4, batch_size=16):
        self.bandit = Bandit(arms)
        self.agent = PolicyGradientAgent(arms)
        self.batch_size = batch_size
        self.engine = Engine(self.play)
        self.evaluator = Engine(self.exploit)
        RunningAverage(output_transform=lambda out: out["reward"]).attach(self.engine, "reward")
        self.engine.add_event_handler(Events.EPOCH_COMPLETED, self.report, every="epoch")
        saver = Checkpoint(self.agent.save_to(), DiskSaver("agents", create_dir=True), n_saved=1)
        self.engine.add_event_handler(Events.EPOCH_COMPLETED(every=2), saver)

    def play(self, engine, _):
        contexts = self.bandit.contexts(self.batch_size)
        policy = self.agent.act(contexts)
        actions = policy.sample()
        rewards = self.bandit.rewards(contexts, actions)
        return {"loss": self.agent.learn(policy, actions, rewards), "reward": rewards.mean().item()}

    def exploit(self, engine, contexts):
        with torch.no_grad():
            actions = self.agent.act(contexts).probs.argmax(dim=1)
        return self.bandit.rewards(contexts, actions).mean().item()

    def report(self, engine, every):
        state = self.evaluator.run([self.bandit.contexts(50)])
        print(every, engine.state.epoch, f"{engine.state.metrics['reward']:.6f} greedy {state.output:.6f}")

    def run(self, epochs=4, plays=8):
        return self.engine.run(range(plays), max_epochs=epochs)


def main():
    torch.manual_seed(29)
    experiment = Experiment()
    state = experiment.run()
    print(state.iteration, f"{experiment.agent.baseline:.6f}")


if __name__ == "__main__":
    main()
