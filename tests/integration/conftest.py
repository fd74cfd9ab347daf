"""Shows the logs of every running gateway beside a failure."""

from collections.abc import Generator

import pytest

from integration.standalone import LIVE


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for gateway in LIVE:
            report.sections.extend(gateway.log_sections())
    return report
