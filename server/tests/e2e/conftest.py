"""Fixtures of all files: processes that end with the test or the file that started them."""

import re

import pytest

from lib.processes import Processes
from lib.upstream import Upstream


def _processes(tmp_path_factory, name: str):
    return Processes(tmp_path_factory.mktemp(re.sub(r"\W+", "-", name)[:40]))


@pytest.fixture(scope="module")
def shared(request, tmp_path_factory):
    """Processes that all tests of a file share."""
    processes = _processes(tmp_path_factory, request.module.__name__)
    yield processes
    processes.end()


@pytest.fixture
def own(request, tmp_path_factory):
    """Processes of one test."""
    processes = _processes(tmp_path_factory, request.node.name)
    yield processes
    processes.end()


@pytest.fixture(scope="session")
def upstream():
    upstream = Upstream()
    yield upstream
    upstream.end()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows the last lines of the logs of its processes."""
    report = (yield).get_result()
    if report.failed:
        for fixture in ("shared", "own"):
            processes = item.funcargs.get(fixture)
            if processes and processes.started:
                report.sections.append((f"logs of {fixture} processes", processes.tails()))
