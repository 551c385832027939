"""What is written can be read: every state is refused at once with its place, or every reader gets an equal one."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import datetime as dt
import types
from collections import Counter, OrderedDict, UserDict, defaultdict, deque, namedtuple
from decimal import Decimal
from enum import Enum, IntEnum
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR
from torch.utils.data import DataLoader, IterableDataset

import unitrain
from unitrain import Callback, CheckpointError, Event, LRSchedule, ModelCheckpoint, UnifiedTrainer
from unitrain.checkpoint import gate, io
from unitrain.checkpoint import sharded_files as parts
from unitrain.checkpoint.convert import safe_reading as foreign
from unitrain.checkpoint.gate import admitted, restored
from unitrain.checkpoint.layout import KEY
from unitrain.checkpoint.optimizer_states import load_optimizer
from unitrain.testing.cases import spec
from unitrain.testing.models import loader
from unitrain.testing.trace import differences

FRAMEWORKS = ["reference", "lightning", "ignite"]


class Kind(Enum):
    A = 1


class Level(IntEnum):
    HIGH = 3


class Text(str):
    __slots__ = ()


class Number(float):
    __slots__ = ()


class Dict(dict):
    pass


class List(list):
    pass


class Marked(torch.Tensor):
    pass


Point = namedtuple("Point", "x y")  # noqa: PYI024 - what a user may have


def tagged():
    made = nn.Parameter(torch.ones(2))
    made.tag = Path("x")
    return made


def holding_itself():
    made = {}
    made["me"] = [made]
    return made


def deep():
    made = []
    for _ in range(500):
        made = [made]
    return made


KEPT = {
    "plain": {"a": [1, 2.5, "x", None, True, b"\xff", 1j, (1, 2)], 1: {2: 3}, None: 0, (1, "a"): 2},
    "not finite": [float("inf"), -float("inf"), -0.0],
    "large integers": [2**70, -(2**5000), 2**2000],
    "no bytes": [b"", bytearray(), bytearray(b"x")],
    "surrogates": "\ud800",
    "numpy numbers": [np.float64(0.1), np.float32(0.1), np.float16(0.1), np.int8(-1), np.uint64(2**63), np.bool_(True)],
    "numpy complex": np.complex64(1 + 2j),
    "numpy key": {np.int64(1): 2},
    "path": [Path("a/b"), PurePosixPath("c"), PureWindowsPath("d\\e")],
    "time": [
        dt.date(2024, 1, 2),
        dt.time(3, 4, 5, 6),
        dt.datetime(2024, 1, 2, 3, 4, 5, 6),  # noqa: DTZ001
        dt.datetime(2024, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        dt.timedelta(days=-1, microseconds=3),
    ],
    "decimal": Decimal("0.10"),
    "sets": [{1, "a", None}, frozenset({2}), set(), frozenset()],
    "counted": [Counter("aab"), OrderedDict(b=1, a=2), deque([1, (2,)], 3), deque([Path("x")])],
    "defaults": [defaultdict(list, a=[1]), defaultdict(None, b=2)],
    "ranges": [range(1, 9, 2), slice(None, 3)],
    "namespaces": [argparse.Namespace(lr=0.1, at=Path("x")), types.SimpleNamespace(a=argparse.Namespace(b=1))],
    "subclasses": [Text("a"), Number(0.1), Level.HIGH, Dict(a=1), List([Path("y")]), Point(1, Path("z"))],
    "mapping": types.MappingProxyType({"a": np.int64(1)}),
    "torch": [torch.device("cuda:1"), torch.float16, torch.Size([1, 2]), torch.strided],
    "within packed": deque([{"a": frozenset({1}), "b": (argparse.Namespace(x=deque([np.float32(0.1)])),)}]),
}
REFUSED = {
    "enum": (Kind.A, r"\.name or \.value"),
    "module": (nn.ReLU(), "state_dict"),
    "class": (nn.ReLU, "name"),
    "lambda": (lambda: 0, "name"),
    "generator": (torch.Generator(), "get_state"),
    "object": (object(), "use tensors"),
    "object array": (np.array([None]), "use tensors"),
    "record": (np.zeros(2, [("a", "i4")]), "use tensors"),
    "long double": (np.longdouble(1), "use tensors"),
    "subclass of time": (type("Stamp", (dt.datetime,), {})(2024, 1, 1), "use tensors"),
    "iterator": (iter([1]), "use tensors"),
    "default factory": (defaultdict(lambda: 0), "name"),
    "itself": (holding_itself(), "once"),
    "deep": (deep(), "flat"),
}


def passed(value):
    """Return ``value`` as a reader gets it, in the place of a callback's state."""
    made = {KEY: {"callbacks": {"Keeper": value}}}
    return restored(admitted(made))[KEY]["callbacks"]["Keeper"]


@pytest.mark.parametrize("name", KEPT)
def test_an_equal_value_is_read(name, tmp_path):
    value = KEPT[name]
    assert passed(value) == value
    io.write(tmp_path / "a.ckpt", {KEY: {"x": value}, "y": 0})
    torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert parts.read_any(tmp_path / "a.ckpt")[KEY]["x"] == value
    again = parts.read_any(tmp_path / "a.ckpt")
    io.write(tmp_path / "b.ckpt", io.read(tmp_path / "a.ckpt"))  # what was not restored keeps its notes
    assert parts.read_any(tmp_path / "b.ckpt") == again


@pytest.mark.parametrize("kind", ["f8", "f4", "f2", ">f4", "i1", "u2", "u8", "?", "c8", "U3", "S2", "M8[D]", "m8[ns]"])
def test_an_array_keeps_its_dtype_and_its_bits(kind):
    for shape in ((), (0, 2), (2, 3)):
        array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype("i8").astype(kind)
        found = passed({"array": array})["array"]
        assert (type(found), found.dtype, found.shape) == (np.ndarray, array.dtype, shape)
        assert found.tobytes() == array.tobytes()
    strided = np.arange(12.0).reshape(3, 4)[::-1, ::2]
    assert np.array_equal(passed(strided), strided)


def test_numbers_of_numpy_stay_of_their_kind():
    for number in KEPT["numpy numbers"]:
        assert type(passed(number)) is type(number)
    assert type(passed([defaultdict(list)])[0]) is defaultdict


@pytest.mark.parametrize(
    "make", [lambda: Marked([1.0]), tagged, lambda: nn.Buffer(torch.ones(2))], ids=["class", "attribute", "buffer"]
)
def test_a_tensor_is_written_without_its_class_and_attributes(make, tmp_path):
    value = make()
    io.write(tmp_path / "a.ckpt", {"state_dict": {"w": value}})
    found = io.read(tmp_path / "a.ckpt")["state_dict"]["w"]
    assert torch.equal(found, value.detach().as_subclass(torch.Tensor))


def test_a_tensor_without_values_is_refused():
    with pytest.raises(
        CheckpointError,
        match=r"x is an UninitializedParameter of an uninitialized lazy layer[\s\S]*Hint: run one batch",
    ):
        gate.plain(nn.LazyLinear(2).weight, "x")


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_with_its_place(name):
    value, hint = REFUSED[name]
    with pytest.raises(CheckpointError, match=rf"unitrain\['callbacks'\][\s\S]*Hint: .*{hint}"):
        passed({"in": [value]})
    with pytest.raises(CheckpointError, match=r"optimizer_states\[0\]\['param_groups'\]\[0\]|optimizer_states\[0\]"):
        admitted({"optimizer_states": [{"param_groups": [{"kind": value}]}]})


@pytest.mark.parametrize("key", [Path("x"), Kind.A, frozenset({1}), torch.ones(1), object()], ids=type)
def test_a_key_has_no_other_kind(key):
    with pytest.raises(CheckpointError, match="has the key"):
        passed({"in": {key: 1}})


def test_a_form_without_notes_takes_numbers_only(tmp_path):
    io.write(tmp_path / "a.ckpt", {"lr": np.float64(0.1), "array": np.arange(2)})
    found = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert found["lr"] == 0.1
    assert torch.equal(found["array"], torch.arange(2))
    with pytest.raises(CheckpointError, match=r"lr\[0\] is a Path"):
        io.write(tmp_path / "a.ckpt", {"lr": [Path("x")]})
    lost = []
    io.write(tmp_path / "a.ckpt", {"lr": [Path("x")]}, lost)
    assert lost == ["lr[0]: its type, Path (stored as a plain value)"]
    assert torch.load(tmp_path / "a.ckpt", weights_only=True) == {"lr": ["x"]}


# --- the notes of a hostile file --------------------------------------------------------------------------------------


NOTES = {
    "nowhere": [["nowhere"], "Path", None],
    "no dtype": [[KEY, "x"], "numpy.ndarray", "no dtype"],
    "another kind": [[KEY, "x"], "range", None],
    "no factory": [[KEY, "x"], "defaultdict", "eval"],
    "unknown": [[KEY, "x"], "os.system", None],
    "long": [[KEY, "x"] * 5000, "Path", None],
    "text": "not a note",
    "unhashable": [[KEY, "x"], ["unhashable"], None],
    "number": 7,
}


@pytest.mark.parametrize("note", NOTES.values(), ids=NOTES)
def test_notes_that_do_not_fit_are_refused(note, tmp_path):
    torch.save({KEY: {"x": "text", gate.NOTES: [note]}}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match="Hint: "):
        parts.read_any(tmp_path / "a.ckpt")


# --- whole runs -------------------------------------------------------------------------------------------------------


class Odd(nn.Sequential):
    """A model with an extra state of every kind."""

    def __init__(self, extra):
        super().__init__(nn.Linear(4, 3))
        self.extra = extra

    def get_extra_state(self):
        return self.extra

    def set_extra_state(self, state):
        self.extra = state


class Keeper(Callback):
    def __init__(self, state=None):
        self.state = state

    def state_dict(self):
        return {"state": self.state}

    def load_state_dict(self, state):
        self.state = state["state"]


class Positions(IterableDataset):
    def __init__(self, kept=None):
        self.kept, self.at = kept, 0

    def __iter__(self):
        generator = torch.Generator().manual_seed(1)
        rows = torch.randn(16, 4, generator=generator)
        while self.at < len(rows):
            self.at += 1
            yield rows[self.at - 1], torch.tensor(self.at % 3)
        self.at = 0

    def state_dict(self):
        return {"at": np.int64(self.at), "kept": self.kept}

    def load_state_dict(self, state):
        self.at, self.kept = int(state["at"]), state["kept"]


def stepped(parameters, value):
    class Odd(SGD):
        def step(self, closure=None):
            super().step(closure)
            for parameter in self.param_groups[0]["params"]:
                self.state[parameter].setdefault("odd", value)

    return Odd(parameters, lr=np.float32(0.1), momentum=np.float64(0.9))


def odd_run(framework, values, **options):
    """Return a trainer, a spec and data with ``values`` wherever a user can put one."""
    first, second, third, fourth = values
    torch.manual_seed(0)
    made = unitrain.TrainSpec(
        model=Odd(first),
        loss=nn.CrossEntropyLoss(),
        optimizer=partial(stepped, value=second),
        lr_scheduler=LRSchedule(partial(ExponentialLR, gamma=np.float32(0.9)), interval="step"),
        callbacks=[Keeper(third)],
    )
    given = {"max_epochs": 2, "seed": 0, "enable_progress_bar": False, **options}
    return UnifiedTrainer(framework, **given), made, DataLoader(Positions(fourth), 4)


def told(made, data):
    """Return what a run left wherever a user can see it."""
    optimizers = [
        {key: one for key, one in group.items() if key != "params"}
        for group in made[0].optimizers["optimizer"].param_groups
    ]
    states = [one["odd"] for one in made[0].optimizers["optimizer"].state.values()]
    kept = next(one.state for one in made[1].callbacks if isinstance(one, Keeper))
    return made[1].model.extra, states, kept, data.dataset.kept, optimizers


def refusal(write, path):
    """Return what ``write`` says when it refuses to make the file; None if it has made it."""
    try:
        write()
    except CheckpointError as error:
        said = str(error)
    else:
        return None
    assert "Hint: " in said
    assert not path.exists()
    return said


def everywhere(framework, values, folder):
    """Fit to the end and across a checkpoint in the middle of an epoch; return what both left, or the refusal."""
    whole, whole_spec, data = odd_run(framework, copy.deepcopy(values))
    whole.fit(whole_spec, data)
    expected = told((whole, whole_spec), data)
    path = folder / "mid.ckpt"
    path.unlink(missing_ok=True)
    first, first_spec, data = odd_run(framework, copy.deepcopy(values))
    first.on(Event.BATCH_END(once=6), lambda run: (run.save_checkpoint(path), run.stop()))
    refused = refusal(lambda: first.fit(first_spec, data), path)
    if refused is not None:
        return refused
    torch.load(path, weights_only=True)
    unitrain.load_weights(path)
    for form in ("lightning", "portable"):
        unitrain.convert_checkpoint(path, folder / "other", form, overwrite=True)
        torch.load(folder / "other", weights_only=True)
    second, second_spec, data = odd_run(framework, [None] * 4)
    second.fit(second_spec, data, ckpt_path=path)
    assert told((second, second_spec), data) == expected
    ours, theirs = (dict(one.model.named_parameters()) for one in (second_spec, whole_spec))
    assert not differences(ours, theirs)
    return None


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_all_kinds_come_back_and_the_run_goes_on_to_the_same_bits(framework, tmp_path):
    values = [value for name, value in KEPT.items() if name != "mapping"]  # which copy.deepcopy does not take
    assert everywhere(framework, [values[0::4], values[1::4], values[2::4], values[3::4]], tmp_path) is None


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("where", range(4))
def test_what_is_refused_leaves_no_file(framework, where, tmp_path):
    values = [None] * 4
    values[where] = {"deep": [Kind.A]}
    places = [
        "state_dict['model._extra_state']",
        "optimizer_states[0]['state'][0]['odd']",
        "unitrain['callbacks']['Keeper']['state']",
    ]
    places.append("unitrain['progress']['loader']['kept']")
    assert f"{places[where]}['deep'][0] is a " in everywhere(framework, values, tmp_path)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("where", ["group", "extra"])
def test_it_is_refused_before_training_where_a_checkpoint_is_wanted(framework, where, tmp_path):
    begun = []
    trainer = UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False, callbacks=[ModelCheckpoint(tmp_path)])
    trainer.on(Event.FIT_START, lambda: begun.append(1))
    made = {"group": spec, "extra": lambda: unitrain.TrainSpec(model=Odd({"k": Kind.A}), loss=nn.MSELoss())}
    group = lambda parameters: SGD([{"params": parameters, "kind": Kind.A if where == "group" else 1}], lr=0.1)  # noqa: E731
    place = {"group": r"optimizer_states\[0\]\['param_groups'\]\[0\]\['kind'\]", "extra": r"_extra_state'\]\['k'\]"}
    with pytest.raises(CheckpointError, match=rf"{place[where]} is a .*Kind"):
        trainer.fit(dataclasses.replace(made[where](), optimizer=group), loader())
    assert not begun


@pytest.mark.parametrize("resumed", FRAMEWORKS)
@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16])
def test_learning_rates_of_numpy_go_on_to_the_same_bits_on_every_backend(resumed, kind, tmp_path):
    def made():
        torch.manual_seed(3)
        return spec_of(kind)

    def spec_of(kind):
        return unitrain.TrainSpec(
            model=nn.Sequential(nn.Linear(4, 3)),
            loss=nn.CrossEntropyLoss(),
            optimizer=partial(SGD, lr=kind(0.3), momentum=kind(0.9)),
            lr_scheduler=LRSchedule(partial(LambdaLR, lr_lambda=lambda epoch: kind(0.7) ** epoch), interval="step"),
        )

    data = lambda: DataLoader(Positions(), 4)  # noqa: E731
    plain = {"seed": 0, "enable_progress_bar": False}
    whole = made()
    UnifiedTrainer("reference", max_epochs=4, **plain).fit(whole, data())
    others = [name for name in FRAMEWORKS if name != resumed]
    for number, (written, path) in enumerate((name, tmp_path / f"{name}.ckpt") for name in others):
        trainer = UnifiedTrainer(written, max_epochs=2 + number, **plain)
        trainer.fit(made(), data())
        trainer.save_checkpoint(path)
        other = made()
        UnifiedTrainer(resumed, max_epochs=4, **plain).fit(other, data(), ckpt_path=path)
        assert not differences(dict(other.model.state_dict()), dict(whole.model.state_dict()))


ODD_STATES = ["", "text", ["a"], {"b": ("c",)}, np.arange(2.0), range(2), deque([1], 2), Counter("a"), OrderedDict(a=1)]


@pytest.mark.parametrize("value", ODD_STATES, ids=repr)
def test_an_optimizer_gets_back_what_torch_would_break(value):
    optimizer = SGD([nn.Parameter(torch.ones(2))], lr=0.1, momentum=0.9)
    state = {"odd": value, "momentum_buffer": torch.ones(2, dtype=torch.float64), "of tensors": [torch.ones(1)]}
    load_optimizer(optimizer, {**optimizer.state_dict(), "state": {0: state}})
    (found,) = optimizer.state.values()
    assert type(found["odd"]) is type(value)
    assert np.array_equal(found["odd"], value) if isinstance(value, np.ndarray) else found["odd"] == value
    assert found["momentum_buffer"].dtype == torch.float32  # torch's own part is done as ever


def test_torch_itself_breaks_a_text():
    """Once it does not, ``optimizer_states.py`` can go."""
    optimizer = SGD([nn.Parameter(torch.ones(2))], lr=0.1)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": {0: {"odd": "text"}}})
    assert "generator object" in next(iter(optimizer.state.values()))["odd"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_first_file_of_a_run_is_read_back(framework, tmp_path, monkeypatch):
    checked = []
    real = io._require_readable
    monkeypatch.setattr(io, "_require_readable", lambda path: (checked.append(path), real(path)))
    keep = ModelCheckpoint(tmp_path, save_top_k=-1)
    for number in (1, 2):
        UnifiedTrainer(framework, max_epochs=3, enable_progress_bar=False, callbacks=[keep]).fit(spec(), loader())
        assert len(checked) == number


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_file_that_cannot_be_read_back_ends_the_run_and_is_not_there(framework, tmp_path, monkeypatch):
    monkeypatch.setattr(io, "admitted", lambda content, lost=None: {**content, "odd": Path("x")})
    trainer = UnifiedTrainer(framework, max_epochs=3, enable_progress_bar=False, callbacks=[ModelCheckpoint(tmp_path)])
    with pytest.raises(CheckpointError, match="could not be read back, so it was not written"):
        trainer.fit(spec(), loader())
    assert not list(tmp_path.iterdir())


# --- any state --------------------------------------------------------------------------------------------------------

FLAT = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(2**1990, 2**2300),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    st.text(max_size=5),
    st.binary(max_size=3),
    st.sampled_from([np.float32(0.1), np.int16(-3), np.bool_(False), np.str_("s"), np.datetime64("2024-01-02")]),
    st.sampled_from([Path("a"), PureWindowsPath("b"), Kind.A, Level.HIGH, Text("t"), Number(1.5)]),
    st.sampled_from([torch.float64, torch.device("cpu"), torch.Size([2]), Decimal("1.0"), range(3), len, nn.ReLU]),
    st.dates(),
    st.datetimes(),
    st.timedeltas(),
)
KEYS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=3), st.just(Path("k"))
)


def containers(inner):
    lists = st.lists(inner, max_size=3)
    dicts = st.dictionaries(KEYS, inner, max_size=3)
    return st.one_of(
        lists,
        dicts,
        lists.map(tuple),
        lists.map(List),
        lists.map(deque),
        dicts.map(Dict),
        dicts.map(OrderedDict),
        dicts.map(lambda given: defaultdict(int, given)),
        dicts.map(UserDict),
        st.tuples(inner, inner).map(lambda given: Point(*given)),
        st.frozensets(st.integers(), max_size=3),
        st.dictionaries(st.sampled_from("ab"), inner).map(lambda given: argparse.Namespace(**given)),
        st.dictionaries(st.sampled_from("ab"), st.integers(1, 3)).map(Counter),
    )


STATES = st.recursive(FLAT, containers, max_leaves=8)
QUIET = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck), "database": None}


def through_every_reader(value, folder):
    """Return why ``value`` is refused; it is read back equal by every reader, or refused with its place."""
    path = folder / "a.ckpt"
    path.unlink(missing_ok=True)
    weights = {"model.w": torch.ones(1), "model._extra_state": value}
    content = {"state_dict": weights, "optimizer_states": [{"state": {}, "param_groups": [{"odd": value}]}]}
    content[KEY] = {"format": 1, "callbacks": {"Keeper": value}, "hub": {"epoch": 0}}
    refused = refusal(lambda: io.write(path, content), path)
    if refused is not None:
        assert "state_dict['model._extra_state']" in refused
        return refused
    torch.load(path, weights_only=True)
    found = parts.read_any(path)
    assert found[KEY]["callbacks"]["Keeper"] == value
    assert found["optimizer_states"][0]["param_groups"][0]["odd"] == value
    assert unitrain.load_weights(path)["_extra_state"] == value
    assert foreign.read(path)["state_dict"]["model._extra_state"] == value
    return None


@settings(max_examples=60, **QUIET)
@given(value=STATES)
def test_any_state_is_read_back_equal_or_refused(value, tmp_path_factory):
    through_every_reader(value, tmp_path_factory.getbasetemp())


@pytest.mark.slow
@settings(max_examples=5000, **QUIET)
@given(value=STATES)
def test_any_state_of_many_is_read_back_equal_or_refused(value, tmp_path_factory):
    through_every_reader(value, tmp_path_factory.getbasetemp())


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
@settings(max_examples=60, **QUIET)
@given(values=st.lists(STATES, min_size=4, max_size=4))
def test_any_states_in_a_run_come_back_or_are_refused(framework, values, tmp_path_factory):
    everywhere(framework, values, tmp_path_factory.getbasetemp())


# --- negative controls ------------------------------------------------------------------------------------------------


def test_without_the_gate_the_check_of_the_written_file_refuses(tmp_path, monkeypatch):
    monkeypatch.setattr(io, "admitted", lambda content, lost=None: dict(content))
    with pytest.raises(CheckpointError, match=r"could not be read back, so it was not written[\s\S]*Hint: "):
        io.write(tmp_path / "a.ckpt", {KEY: {"x": np.float64(1.0)}})
    assert not list(tmp_path.iterdir())


def test_without_the_gate_and_the_check_the_property_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(io, "admitted", lambda content, lost=None: dict(content))
    monkeypatch.setattr(io, "_require_readable", lambda path: None)
    for value in (np.float64(1.0), Path("x"), b"", 2**3000):
        with pytest.raises(Exception, match=r"weights_only|Weights only"):
            through_every_reader(value, tmp_path)


@pytest.mark.parametrize("name", ["numpy.number", "Path", "deque"])
def test_a_kind_that_is_not_restored_is_noticed(name, tmp_path, monkeypatch):
    broken = gate.KINDS[name]
    monkeypatch.setitem(gate.KINDS, name, type(broken)(broken.pack, lambda value, _: "another"))
    value = {"numpy.number": np.float32(0.1), "Path": Path("x"), "deque": deque([1])}[name]
    with pytest.raises(AssertionError, match="another"):
        through_every_reader(value, tmp_path)
