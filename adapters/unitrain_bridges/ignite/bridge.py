"""The bridge for Ignite programs and unchanged scripts."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from unitrain.backends.registry import find_adapter
from unitrain.config import TrainerConfig
from unitrain.interop.ignite_programs import from_engine
from unitrain_bridges.ignite.callbacks import IgniteHandler, refuse_named
from unitrain_bridges.ignite.options import HOME
from unitrain_bridges.ignite.own_run import runs_redirected
from unitrain_bridges.ignite.processes import processes_refused
from unitrain_bridges.ignite.roles import trains
from unitrain_bridges.ignite.session import IgniteSession
from unitrain_ignite.adapter import IgniteAdapter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from unitrain.backends.protocol import Adapter
    from unitrain.callbacks import Callback
    from unitrain_bridges.ignite.prepare import RunArguments
    from unitrain_ignite._compat import Engine


class IgniteBridge:
    """Runs Ignite engines and process functions on any backend."""

    home: ClassVar[str] = HOME
    upgrades: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}

    def open(self, adapter: Adapter, config: TrainerConfig) -> IgniteSession:
        """Return the session that runs Ignite programs on ``adapter``.

        Raises:
            UnitrainError: If an argument cannot act there.
        """
        return IgniteSession(adapter, config)

    def callback(self, native: Any, adapter: Adapter) -> Callback | None:
        """Return an Ignite handler as a callback; None if it cannot be attached alone.

        Raises:
            UnsupportedFeatureError: If it works in Ignite's own loop only.
        """
        if not IgniteAdapter().accepts_callback(native):
            return None
        refuse_named(native, adapter.name)
        return IgniteHandler(native, adapter.name)

    @contextmanager
    def redirected(self, framework: str) -> Iterator[None]:
        """Let each engine that trains run on ``framework``, where a script calls ``engine.run`` itself.

        An engine that only evaluates runs unchanged; one that trains in a handler of another one gets a loop of its
        own. Processes that would train without this redirection are refused.
        """
        adapter = find_adapter(framework)
        if adapter.name == self.home:
            yield
            return

        def drive(engine: Engine, given: RunArguments) -> None:
            IgniteSession(adapter, TrainerConfig()).train(from_engine(engine), given)

        with runs_redirected(drive, trains), processes_refused(adapter.name):
            yield
