"""One browser for all tests of pages."""

import pytest

from tests.serving.browser import running_browser


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    with running_browser(tmp_path_factory.mktemp("chromium")) as made:
        yield made
