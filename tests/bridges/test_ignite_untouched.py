"""No code of the user's classes runs but where the program itself calls it: neither overrides nor properties."""

import importlib.util
import threading
from contextlib import nullcontext
from enum import Enum

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from tests.bridges.ignite_runs import AWAY
from unitrain_bridges.ignite import bare
from unitrain_bridges.ignite.bridge import IgniteBridge
from unitrain_bridges.ignite.discovery import discover, wrap_modules

CALLED = []
SCHEDULES = torch.optim.lr_scheduler
NOT_TOLD = {"forward", "_call_impl", "_wrapped_call_impl", "__init__"}
SPECIAL = {"__getattr__", "__dir__", "__repr__", "__getstate__", "__len__"}


def telling(base, **members):
    """Return a subclass of ``base`` each of whose methods writes down that it was called."""
    cls = type(f"Telling{base.__name__}", (base,), members)
    for name in sorted(set(dir(base)) - NOT_TOLD - set(members)):
        method = getattr(base, name)
        if callable(method) and not isinstance(method, type) and (not name.startswith("__") or name in SPECIAL):
            setattr(cls, name, _told(cls, name))
    return cls


def _told(cls, name):
    def told(self, *args, **kwargs):
        CALLED.append(f"{cls.__name__}.{name}")
        return getattr(super(cls, self), name)(*args, **kwargs)

    return told


class Short(nn.Linear):
    """A model that saves in its own way."""

    def state_dict(self):
        CALLED.append("state_dict")
        return {"arch": "short"}

    def parameters(self):
        CALLED.append("parameters")
        return []


class Lookahead(torch.optim.Optimizer):
    """An optimizer around another one, which does not call torch's constructor, as many do not."""

    def __init__(self, inner):
        self.inner = inner

    @property
    def param_groups(self):
        CALLED.append("param_groups")
        return self.inner.param_groups

    def zero_grad(self):
        self.inner.zero_grad()

    def step(self):
        self.inner.step()


class Proxy:
    @property
    def __class__(self):
        CALLED.append("__class__")
        return int

    def __getattr__(self, name):
        CALLED.append(name)
        raise AttributeError(name)


class Watched:
    __module__ = property(lambda self: CALLED.append("__module__"))

    def __getattribute__(self, name):
        CALLED.append(name)
        return super().__getattribute__(name)


class Dicted:
    @property
    def __dict__(self):
        CALLED.append("__dict__")
        return {}


class Key:
    def __str__(self):
        CALLED.append("__str__")
        return "key"


class Unmade(nn.Module):
    def __init__(self):
        pass


def collection(kind, *given):
    return type(f"Telling{kind.__name__}", (kind,), {name: _told_empty(name) for name in ("__iter__", "items")})(*given)


def _told_empty(name):
    return lambda self: CALLED.append(name) or iter(())


def models():
    kind = telling(nn.Module, forward=lambda self, x: self.layer(x))
    inner, outer = kind(), kind()
    inner.layer, outer.layer = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), inner)
    return [outer, Short(2, 2)]


def optimizers(nets):
    weights = [parameter for net in nets for parameter in nn.Module.parameters(net)]
    return [telling(torch.optim.SGD)(weights, 0.1), Lookahead(torch.optim.SGD(weights, 0.1))]


def oddities():
    """Return objects that tell when they are touched."""
    held = [collection(dict, {"a": 1}), collection(list, [1]), collection(tuple, [1]), collection(set, [1])]
    return [*held, Proxy(), Watched(), Dicted(), Unmade(), {Key(): 1, Enum("E", "A").A: 2}]


def train(redirection, tell_apart=lambda call: call):
    torch.manual_seed(0)
    nets = models()
    steps = optimizers(nets)
    odd = oddities()
    schedule = telling(SCHEDULES.StepLR)(torch.optim.SGD(nn.Module.parameters(nets[1]), 0.1), 1)

    def step(engine, batch):
        assert odd, schedule
        CALLED.append("step")
        for one in steps:
            one.zero_grad()
            sum(net(batch).sum() for net in nets).backward()
            one.step()

    engine = Engine(step)
    CALLED.clear()
    with redirection:
        engine.run([torch.ones(1, 2)] * 2, max_epochs=2)
    return [call for call in CALLED if tell_apart(call)]


def outside_of_lightning(call):
    """Leave out what Lightning itself does to an optimizer that it is given."""
    return call not in ("TellingSGD.__setattr__", "TellingSGD.register_step_post_hook")


@pytest.mark.parametrize("framework", AWAY)
def test_a_run_elsewhere_calls_what_a_native_run_calls(framework):
    kept = outside_of_lightning if framework == "lightning" else lambda call: True
    wanted = train(nullcontext(), kept)
    assert wanted.count("step") == 4
    assert train(IgniteBridge().redirected(framework), kept) == wanted


def test_a_lazy_module_is_not_loaded(tmp_path):
    (tmp_path / "lazy_one.py").write_text("raise AssertionError('loaded')\n")
    spec = importlib.util.spec_from_file_location("lazy_one", tmp_path / "lazy_one.py")
    spec.loader = importlib.util.LazyLoader(spec.loader)
    lazy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lazy)
    assert discover(Engine(lambda engine, batch: lazy.net)).modules == {}


def test_an_optimizer_inside_another_is_found():
    inner = torch.optim.SGD([nn.Parameter(torch.ones(1))], 0.1)
    outer = Lookahead(inner)
    assert discover(Engine(lambda engine, batch: outer.step())).optimizers == {"inner": inner}


def test_a_proxy_written_in_c_is_what_it_wraps():
    wrapt = pytest.importorskip("wrapt")
    net = nn.Linear(2, 2)
    proxy, held = wrapt.ObjectProxy(net), threading.local()
    held.other = nn.Linear(3, 3)

    @wrapt.decorator
    def passed_on(wrapped, instance, args, kwargs):
        return wrapped(*args, **kwargs)

    @passed_on
    def step(engine, batch):
        return proxy(batch), held

    found = discover(Engine(step)).modules
    assert found["proxy"] is proxy
    assert found["other"] is held.other


class Extra(nn.Module):
    def get_extra_state(self):
        raise AssertionError("called")


def module_with(**buffers):
    module = nn.Module()
    for name, persistent in buffers.items():
        module.register_buffer(name, torch.ones(1), persistent=persistent)
    return module


@pytest.mark.parametrize(
    ("module", "has"),
    [
        (nn.Linear(1, 1), True),
        (nn.Sequential(nn.ReLU(), nn.Sequential(nn.Linear(1, 1))), True),
        (nn.utils.parametrizations.weight_norm(nn.Linear(1, 1)), True),
        (module_with(lasting=True), True),
        (module_with(passing=False), False),
        (Extra(), True),
        (nn.MSELoss(), False),
        (Unmade(), False),
    ],
)
def test_modules_with_weights_are_told_from_others(module, has):
    assert bare.has_weights(module) is has
    assert (discover(Engine(lambda engine, batch: module)).modules == {"module": module}) is has


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_module_has_weights():
    assert bare.has_weights(torch.jit.script(nn.Linear(1, 1)))


def test_parts_have_the_names_and_the_order_that_torch_gives_them():
    whole = nn.Sequential(nn.Sequential(nn.Linear(1, 1), nn.ReLU()), nn.Linear(1, 1))
    whole.append(whole[0][0])
    whole.register_module("none", None)
    assert list(bare.named_modules_in(whole, "x")) == list(whole.named_modules(prefix="x"))
    assert list(map(id, bare.parameters_in(whole))) == list(map(id, whole.parameters()))
    held, plain = wrap_modules({"a": whole}), nn.Module()
    plain.add_module("a", whole)
    assert list(held.named_modules())[1:] == list(plain.named_modules())[1:]
    assert dict(held.named_parameters()).keys() == dict(plain.named_parameters()).keys()
