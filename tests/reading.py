"""Pages as people meet them in a browser: on a desk and on a phone, by day and by night, with and without eyes."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import Page
from loopback import wait_until

AXE = Path(__file__).parents[1] / "var/tools/axe-core/node_modules/axe-core/axe.min.js"
DESK, PHONE = 1280, 360
MEGABYTE = 1_000_000
NOTICED = 0.001
"""Share of the window times share of the way: a hundredth of what Web Vitals calls good. A page that is shown while its
text still comes moves by less."""

_SERIOUS = """
axe.run(document, {resultTypes: ['violations']}).then(found => found.violations
  .filter(one => ['serious', 'critical'].includes(one.impact))
  .map(one => `${one.id}: ${one.nodes.map(node => node.target + ' ' + node.failureSummary).join('; ')}`))
"""
_SHIFT = """
new Promise(done => {
  let shift = 0
  const seen = new PerformanceObserver(list => { for (const one of list.getEntries()) shift += one.value })
  seen.observe({type: 'layout-shift', buffered: true})
  requestAnimationFrame(() => requestAnimationFrame(() => done(shift)))
})
"""
_WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def require_readable(page: Page, file: Path) -> None:
    """Fail for what keeps a page from anybody: serious findings of axe-core, scrolling sideways, jumps, requests."""
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: tests/system-parts.sh does that")
    assert file.stat().st_size < MEGABYTE
    page.asked.clear()
    for width, scheme in ((PHONE, "dark"), (DESK, "light")):
        page.tell("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        page.tell("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        _visit(page, file)
        assert page.do(_SHIFT) < NOTICED, f"{file.name} jumps at {width} px"
        page.do("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert page.do(_WIDER) <= 0, f"{file.name} is wider than {width} px"
        page.do(AXE.read_text() + "; 0")
        assert page.do(_SERIOUS) == [], f"{file.name} at {width} px, {scheme}"
    assert [url for url in page.asked if not url.startswith(("file:", "data:"))] == []


def _visit(page: Page, file: Path) -> None:
    """Show *file* anew; return when it is there."""
    page.open("about:blank")
    page.open(file.as_uri())
    there = f"location.href == {file.as_uri()!r} && document.readyState == 'complete'"
    wait_until(lambda: page.do(there), 60, f"{file.name} in the browser")
