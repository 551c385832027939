"""The values of an expression, as far as a file shows them, and what becomes of a Trainer that gets them."""

import libcst as cst
import pytest

from tests.migrate.checks import check_transformed, migrated
from unitrain.migrate.arguments import UNKNOWN
from unitrain.migrate.source import Source
from unitrain.migrate.values import A_FLOAT, A_SCALAR, values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("f(3)", [3]),
        ("f(x)", [UNKNOWN]),
        ("f(a.b.c)", [UNKNOWN]),
        ("f(1 if x else 2)", [1, 2]),
        ("f(None or 2)", [2]),
        ("f(3 and 2)", [2]),
        ("f(x or 2)", [UNKNOWN, 2]),
        ("f(3 / x)", [A_FLOAT]),
        ("f(3 // x)", [UNKNOWN]),
        ("f(2.0 * x)", [A_FLOAT]),
        ("f(float(x))", [A_FLOAT]),
        ("f(len(x))", [UNKNOWN]),
        ("import numpy as np\nf(np.int64(2) + 1)", [A_SCALAR]),
        ("import torch\nf(torch.tensor(2))", [A_SCALAR]),
        ("x = x or 3\nf(x)", [3]),
        ("x = 1\nx += 1\nf(x)", [1, UNKNOWN]),
        ("for x in range(3): f(x)", [UNKNOWN]),
        ("[f(x) for x in (1, 2)]", [1, 2]),
        ("with g() as x: f(x)", [UNKNOWN]),
        ("from m import x\nf(x)", [UNKNOWN]),
        ("h = lambda x=3: f(x)", [3]),
        ("def g(x): f(x)\ng(*y)", [UNKNOWN]),
        ("def g(*, x=1): f(x)\ng(4, x=2)", [1, 2]),
        ("class C:\n    def g(self): f(self.x)", [UNKNOWN]),
        ("(a, b), c = 1, 2\nf(a)", [UNKNOWN]),
        ("p.add_argument()\nf(args.x)", [UNKNOWN]),
        ("p.add_argument('-x', default=1)\nf(args.x)", [1]),
        ("p.add_argument('--x', type=int)\nf(args.x)", [None]),
        ("p.add_argument('-y', dest='x')\nf(args.x)", [None]),
        ("p.add_argument('x', type=int)\nf(args.x)", [UNKNOWN]),
        ("p.add_argument('--x', type=int, required=True)\nf(args.x)", [UNKNOWN]),
        ("p.add_argument('--x', action='store_true')\nf(args.x)", [UNKNOWN]),
        ("p.add_argument('--x', **options)\nf(args.x)", [UNKNOWN]),
        ("p.add_argument('--a-b', type=float, default=1)\nf(args.a_b)", [A_FLOAT, 1]),
    ],
)
def test_values(text, expected):
    source = Source(text)
    call = next(one for one in source.all(cst.Call) if source.code(one.func) == "f")
    assert values(source, call.args[0].value) == expected


@pytest.mark.parametrize("value", ["2.0", "True", "0", "numpy.int64(2)", "steps / 4"])
def test_a_trainer_gets_what_unitrain_refuses_from_lightning(value):
    """Lightning takes it, so Lightning gets it, also by way of a variable."""
    before = (
        "import numpy\nfrom lightning import pytorch as pl\n{}trainer = pl.Trainer(max_epochs={})\ntrainer.fit(m)\n"
    )
    for first, given in (("", value), (f"n = {value}\n", "n"), (f"for n in (1, {value}): pass\n", "n")):
        text = migrated(before.format(first, given)).text
        assert f'UnifiedTrainer(framework="lightning", native={{"lightning": {{"max_epochs": {given}}}}})' in text


def test_a_trainer_gets_the_whole_numbers_of_the_file():
    check_transformed(
        "from lightning import pytorch as pl\nn = -1\ntrainer = pl.Trainer(max_epochs=n, devices=d)\ntrainer.fit(m)\n",
        "from lightning import pytorch as pl\nfrom unitrain import UnifiedTrainer\nn = -1\n"
        'trainer = UnifiedTrainer(framework="lightning", max_epochs=n, devices=d)\ntrainer.fit(m)\n',
    )


def test_lightning_gets_an_option_that_may_be_left_out_if_unitrain_has_no_none_for_it():
    text = migrated(
        "from lightning import pytorch as pl\np.add_argument('--devices', type=int)\np.add_argument('--epochs', type=int)\n"
        "trainer = pl.Trainer(max_epochs=args.epochs, devices=args.devices)\ntrainer.fit(m)\n"
    ).text
    assert 'max_epochs=args.epochs, native={"lightning": {"devices": args.devices}})' in text


@pytest.mark.parametrize("written", ["dict(max_epochs={}, devices=1)", '{{"max_epochs": {}, "devices": 1}}'])
def test_lightning_gets_what_unitrain_refuses_from_a_mapping(written):
    text = "from lightning import pytorch as pl\noptions = {}\ntrainer = pl.Trainer(**options)\ntrainer.fit(m)\n"
    taken = migrated(text.format(written.format(3))).text
    assert 'UnifiedTrainer(framework="lightning", **options)' in taken
    refused = migrated(text.format(written.format("0"))).text
    assert (
        'native={"lightning": {**{name: options.pop(name) for name in ("max_epochs",) if name in options}}}' in refused
    )
