"""The bridge for Ignite programs and unchanged scripts."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar

from unitrain.backends.registry import find_adapter
from unitrain.config import TrainerConfig
from unitrain.interop.ignite_programs import from_engine
from unitrain_bridges.ignite.callbacks import IgniteHandler, refuse_named
from unitrain_bridges.ignite.options import HOME
from unitrain_bridges.ignite.prepare import RunArguments
from unitrain_bridges.ignite.roles import trains
from unitrain_bridges.ignite.session import IgniteSession
from unitrain_ignite._compat import Engine
from unitrain_ignite.adapter import IgniteAdapter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from unitrain.backends.protocol import Adapter
    from unitrain.callbacks import Callback


class IgniteBridge:
    """Runs Ignite engines and process functions on any backend."""

    home: ClassVar[str] = HOME
    upgrades: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}

    def open(self, adapter: Adapter, config: TrainerConfig) -> IgniteSession:
        """Return what runs Ignite programs on ``adapter``.

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
        own.
        """
        adapter = find_adapter(framework)
        if adapter.name == self.home:
            yield
            return
        original = Engine.run
        signature = inspect.signature(original)
        running: list[Engine] = []

        @wraps(original)
        def run(engine: Engine, *args: Any, **kwargs: Any) -> Any:
            given = signature.bind(engine, *args, **kwargs).arguments
            given.pop("self")
            if any(engine is one for one in running) or not trains(engine):
                return original(engine, *args, **kwargs)
            running.append(engine)
            try:
                session = IgniteSession(adapter, TrainerConfig())
                session.train(from_engine(engine), RunArguments(**given))
            finally:
                running.pop()
            return engine.state

        Engine.run = run  # type: ignore[assignment, method-assign]
        try:
            yield
        finally:
            Engine.run = original  # type: ignore[method-assign]
