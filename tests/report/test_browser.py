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

PRINTED = 1600
SCROLLS = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


OPENED = "performance.timing.loadEventEnd - performance.timing.navigationStart"
AXE = os.environ.get("VEEAM_TASKS_AXE", "")
"""The file of axe-core, which finds what hinders people with a screen reader."""
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
FOUND = f"""axe.run(document, {{runOnly: {RULES}}}).then(found =>
  found.violations.map(one => one.id + ": " + one.nodes.map(node => node.html)))"""


async def test_five_thousand_tasks_open_in_a_second(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And are less than five megabytes.

    A second of work of the page's own thread: what others do meanwhile is not counted.
    """
    file = tmp_path / "report.html"
    write(file, render(night(5000), zone=UTC))
    async with chromium() as page:
        await page.call("Performance.enable", timeDomain="threadTicks")
        await page.open(file, width=1600)
        opened = await page.evaluate(OPENED) / 1000
        # Painted too, for which the event of the load does not wait.
        await page.screenshot(most=900)
        found = (await page.call("Performance.getMetrics"))["metrics"]
    worked = {one["name"]: one["value"] for one in found}["TaskDuration"]
    size = file.stat().st_size / 1e6
    told = f"{size:.2f} MB, {worked:.2f} s of work, open after {opened:.2f} s"
    with capsys.disabled():
        print(f"\n5,000 tasks: {told}")
    assert size < 5
    assert 0.01 < worked < 1


@pytest.mark.skipif(not AXE, reason="needs axe-core from npm: nox -s report")
@pytest.mark.parametrize("count", [20, 500])
@pytest.mark.parametrize(("width", "is_dark"), [(360, True), (1600, False)])
async def test_a_screen_reader_can_tell_it(
    tmp_path: Path, count: int, width: int, *, is_dark: bool
) -> None:
    """No rule of WCAG 2.2 AA that a program can check is broken; a broken page is."""
    file = tmp_path / "report.html"
    text = render(night(count), zone=UTC)
    axe = Path(AXE).read_text(encoding="utf-8")  # noqa: ASYNC240 - quick
    async with chromium() as page:
        for broken in (False, True):
            write(file, text.replace(' lang="en"', "") if broken else text)
            await page.open(file, width=width, is_dark=is_dark)
            await page.evaluate(f"{axe};0")
            found = await page.evaluate(FOUND)
            assert [one.partition(":")[0] for one in found] == (
                ["html-has-lang"] if broken else []
            )


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
                    # A page for the printer, too: what `pdftoppm` shows.
                    if width == PRINTED and not is_dark:
                        name = f"report-{count}.pdf"
                        Path(PICTURES, name).write_bytes(await page.printed())  # noqa: ASYNC240 - small
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
