"""A real Redis server for the tests of storages."""

import pytest

from tests.servers import running_redis


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory):
    """Yield the address of a Redis server that ends with the tests."""
    with running_redis(tmp_path_factory.mktemp("redis"), "--appendonly", "yes") as server:
        yield server.url
