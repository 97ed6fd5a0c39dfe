"""HTML, from text that nobody vouches for: names, arguments, logs and messages of jobs."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from pl_hybridjobs.plain import plain

_LONGEST = 2000

# All rules hang below `.hj`, and take their colours from what is around them.
_STYLE = """
.hj{font:13px/1.45 system-ui,sans-serif;color:inherit;max-width:100%;text-align:left}
.hj *{box-sizing:border-box}
.hj-box{border:1px solid rgba(128,128,128,.4);border-radius:6px;padding:10px 12px;margin:2px 0;overflow:hidden}
.hj-head{display:flex;flex-wrap:wrap;gap:2px 10px;align-items:baseline}
.hj-name{font-weight:600;font-size:15px;overflow-wrap:anywhere}
.hj-status{white-space:nowrap}
.hj-mild{opacity:.75;overflow-wrap:anywhere}
.hj-facts{margin:2px 0 0}
.hj-bar{height:6px;border-radius:3px;background:rgba(128,128,128,.25);margin:8px 0 2px;overflow:hidden}
.hj-bar>div{height:100%;background:#2f80ed}
.hj-charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(250px,100%),1fr));gap:8px 16px;margin-top:8px}
.hj-charts figure{margin:0;min-width:0;max-width:476px}
.hj figcaption{overflow-wrap:anywhere;font-size:13px;margin:0;text-align:left}
.hj-bad,.hj-note{border-left:3px solid #e0445c;padding:2px 0 2px 8px;margin:8px 0 0;white-space:pre-wrap;overflow-wrap:anywhere}
.hj-note{border-color:#2f80ed}
.hj-log{display:flex;flex-direction:column-reverse;max-height:15em;overflow:auto;margin:8px 0 6px;border-radius:4px;\
background:rgba(128,128,128,.12)}
.hj .hj-log pre{flex:none;margin:0;padding:6px 8px;border:0;background:none;color:inherit;font:12px/1.4 ui-monospace,monospace;\
white-space:pre-wrap;overflow-wrap:anywhere}
.hj-scroll{overflow-x:auto;margin-top:8px}
.hj table.hj-table{border-collapse:collapse;margin:0;color:inherit;font-size:12.5px;width:auto}
.hj table.hj-table th,.hj table.hj-table td{padding:2px 10px 2px 0;border:0;border-bottom:1px solid rgba(128,128,128,.25);\
background:none;color:inherit;text-align:left;vertical-align:top;white-space:nowrap;max-width:26em;overflow:hidden;text-overflow:ellipsis}
.hj table.hj-table th{font-weight:600}
.hj table.hj-table .hj-n{text-align:right;font-variant-numeric:tabular-nums}
"""


def text(value: object) -> str:
    """A value as text inside an element or a quoted attribute. Cut where it is very long."""
    shown = str(value)
    if len(shown) > _LONGEST:
        shown = f"{shown[:_LONGEST]} ... ({len(shown) - _LONGEST} more characters)"
    return html.escape(plain(shown))


def block(*parts: str, boxed: bool = True) -> str:
    """Parts of HTML with the styles that they need."""
    return f'<style>{_STYLE}</style><div class="hj{" hj-box" * boxed}">{"".join(parts)}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Sequence[int] = ()) -> str:
    """A table.

    Args:
        head: What the columns are called.
        rows: Values that become text; ``Markup`` is taken as it is.
        numbers: Which columns hold numbers.
    """
    kinds = [' class="hj-n"' if n in numbers else "" for n in range(len(head))]
    top = "".join(f'<th scope="col"{kind}>{text(title)}</th>' for title, kind in zip(head, kinds, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{_cell(value)}</td>" for value, kind in zip(row, kinds, strict=True)) + "</tr>" for row in rows
    )
    return f'<div class="hj-scroll"><table class="hj-table"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


class Markup(str):
    """HTML that is finished."""

    __slots__ = ()


def _cell(value: object) -> str:
    return value if isinstance(value, Markup) else text(value)
