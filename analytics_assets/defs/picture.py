"""Pictures for the UI: colours that are readable on its light and dark background, SVG, and drawings of lineage.

A picture is a few strings. It is drawn whenever definitions load, which must not import a charting library.
"""

from base64 import b64encode
from collections.abc import Iterable
from statistics import mean

from analytics_assets.marts.lineage import Lineage, Source

GREY, BLUE, ORANGE, GREEN = "#767676", "#0072b2", "#d55e00", "#009e73"
ROW, BOX, GAP, ARC = 20, 220, 190, 70  # pixels: height of a row, widths of a box, between boxes and left of them


def embedded(svg: str, title: str) -> str:
    """The picture in Markdown, in the only form that the UI does not remove."""
    return f"![{title}](data:image/svg+xml;base64,{b64encode(svg.encode()).decode()})"


def svg(width: float, height: float, drawn: Iterable[str]) -> str:
    """An SVG of these elements, its size in pixels. It has no background, because that of the UI is light or dark."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="12" fill="none" stroke-width="1.3">{"".join(drawn)}</svg>'
    )


def text(x: float, y: float, words: str, style: str = "") -> str:
    """Text, vertically centred at `y`."""
    return f'<text x="{x:g}" y="{y + 4:g}" fill="{GREY}"{style}>{words}</text>'


def lineage(read: Lineage) -> str:
    """The lineage as SVG: sources on the left, the mart's columns on the right, dashed lines between join keys."""
    targets = {column: index for index, column in enumerate(read.columns)}
    # Sources, and tables, are ordered by the mean position of their targets, so that few lines cross.
    ends: dict[Source, list[int]] = {key: [] for pair in read.keys for key in pair}
    for column, sources in read.columns.items():
        for source in sources:
            ends.setdefault(source, []).append(targets[column])
    depth = {source: mean(of or [len(targets)]) for source, of in ends.items()}
    tables = sorted(read.reads, key=lambda table: mean(depth[source] for source in depth if source.table == table))
    drawn: list[str] = []
    at: dict[Source, float] = {}
    top = 0
    for table in tables:
        columns = sorted((source for source in depth if source.table == table), key=lambda s: (depth[s], s))
        drawn.append(_box(ARC, top, table, (source.column for source in columns)))
        at |= {source: top + (row + 1.5) * ROW for row, source in enumerate(columns)}
        top += (len(columns) + 1) * ROW + 12
    right, middle = ARC + BOX + GAP, ARC + BOX + GAP / 2
    drawn.append(_box(right, 0, read.table.name, targets))
    for column, sources in read.columns.items():
        end = (targets[column] + 1.5) * ROW
        for source in sources:
            curve = f"M{ARC + BOX} {at[source]}C{middle} {at[source]} {middle} {end} {right} {end}"
            drawn.append(f'<path d="{curve}" stroke="{BLUE}"/>')
    for one, other in read.keys:
        curve = f"M{ARC} {at[one]}C0 {at[one]} 0 {at[other]} {ARC} {at[other]}"
        drawn.append(f'<path d="{curve}" stroke="{ORANGE}" stroke-dasharray="5 3"/>')
    foot = max(top, (len(targets) + 1) * ROW + 12) + ROW / 2
    drawn += [
        f'<path d="M{ARC} {foot}h30" stroke="{BLUE}"/>{text(ARC + 38, foot, "value from")}',
        f'<path d="M{ARC + 130} {foot}h30" stroke="{ORANGE}" stroke-dasharray="5 3"/>'
        f"{text(ARC + 168, foot, 'rows matched by')}",
    ]
    return svg(right + BOX + 2, foot + ROW, drawn)


def _box(x: float, y: float, title: str, names: Iterable[str]) -> str:
    """A frame with a title and one row per name."""
    rows = [text(x + 10, y + (row + 1.5) * ROW, name) for row, name in enumerate(names)]
    frame = f'<rect x="{x}" y="{y + 1}" width="{BOX}" height="{(len(rows) + 1) * ROW + 3}" rx="4" stroke="{GREY}"/>'
    return "".join([frame, text(x + 10, y + ROW / 2 + 2, title, ' font-weight="bold"'), *rows])
