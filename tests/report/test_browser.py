"""The report in a real browser: Debian's Chromium, without a window."""

import os
from datetime import UTC
from pathlib import Path

import pytest
from support.chromium import PROGRAM, chromium
from support.deliveries import night

from veeam_tasks.report import render, write

pytestmark = [
    pytest.mark.skipif(PROGRAM is None, reason="needs chromium: nox -s report"),
    pytest.mark.asyncio_loop,
    pytest.mark.lengthy,
]

PICTURES = os.environ.get("VEEAM_TASKS_PICTURES")
"""A folder for screenshots, for people to look at."""

SCROLLS = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


@pytest.mark.parametrize("count", [20, 500, 5000])
async def test_a_browser_shows_it_whole(tmp_path: Path, count: int) -> None:
    """No complaint, no request, no scrolling sideways, and every failure's reason."""
    recorder = night(count)
    file = tmp_path / "report.html"
    write(file, render(recorder, zone=UTC))
    async with chromium() as page:
        for width in (360, 1600):
            for is_dark in (False, True):
                await page.open(file, width=width, is_dark=is_dark)
                assert not await page.evaluate(SCROLLS)
                if PICTURES:
                    word = "dark" if is_dark else "light"
                    name = f"report-{count}-{width}-{word}.png"
                    Path(PICTURES, name).write_bytes(await page.screenshot())  # noqa: ASYNC240 - small
        shown = " ".join((await page.evaluate("document.body.textContent")).split())
    assert page.complaints == []
    reasons = {
        " ".join(machine.reason.split())
        for lane in recorder.lanes
        for machine in lane.latest.failures
        if machine.reason
    }
    assert [reason for reason in reasons if reason not in shown] == []
