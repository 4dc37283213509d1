"""An audit as one page: nothing is loaded from elsewhere, no script runs, light and dark, on paper as well."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from insitu.auditing import Audit

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --proved: #1a7f37; --open: #9a6700; --broken: #cf222e }
@media (prefers-color-scheme: dark) { :root { --proved: #3fb950; --open: #d29922; --broken: #ff7b72 } }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% } .wide { overflow-x: auto }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem .35rem 0; border-bottom: 1px solid var(--line) }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap } code { overflow-wrap: anywhere }
.proved { color: var(--proved) } .open { color: var(--open) } .broken { color: var(--broken); font-weight: 700 }
"""


def page(audit: Audit) -> str:
    """Return *audit* as HTML."""
    title = f"Audit of {audit.model} {f'version {audit.version}' if audit.version else audit.run_key[:12]}"
    word = "Nothing is broken." if audit.holds else "Something is not as it was written."
    findings = (
        f'<tr><td class="{one.status}">{one.status}</td>'
        f"<td>{escape(one.question)}<br><small>{escape(one.found)}</small></td></tr>"
        for one in audit.findings
    )
    totals = (
        f'<tr><td>{escape(place)}</td><td class="n">{total["objects"]}</td><td class="n">{total["bytes"]:,}</td></tr>'
        for place, total in audit.by_destination.items()
    )
    left = (
        f"<tr><td>{escape(one['when'])}</td><td>{escape(one['what'])}<br><small>{escape(one['clearance'])}</small></td>"
        f'<td class="n">{one["bytes"]:,}</td><td><code>{one["sha256"][:16]}</code></td></tr>'
        for one in audit.left
    )
    unclaimed = "".join(f"<li>{escape(one)}</li>" for one in audit.not_checked)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>
<h1>{escape(title)}</h1>
<p>Run <code>{audit.run_key}</code> at site {escape(audit.site)}: {escape(audit.state)}. <strong>{word}</strong></p>
<h2>Questions</h2>{_table(("", "question and answer"), findings)}
<h2>Where objects went</h2>{_table(("destination", "objects", "bytes"), totals)}
<h2>What left, in order</h2>{_table(("when", "what, and why it might", "bytes", "sha256"), left)}
<h2>What nobody claims</h2><p>The absence of:</p><ul>{unclaimed}</ul>
</main></body></html>
"""


def _table(heads: Iterable[str], rows: Iterable[str]) -> str:
    cells = "".join(f'<th scope="col">{head}</th>' for head in heads)
    return f'<div class="wide"><table><thead><tr>{cells}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
