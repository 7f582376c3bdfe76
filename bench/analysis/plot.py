"""Two plots as SVG, by hand: no library is worth its weight for them."""

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 640, 320, 60, 40, 40
COLOURS = ("#1b7837", "#b2182b", "#2166ac", "#762a83")


def _page(height: int, body: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{height}" fill="white"/>', *body, "</svg>"]) + "\n"


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="12" {more}>{escape(text)}</text>'


def bars(title: str, shares: Mapping[str, float]) -> str:
    """Shares from 0 to 1 as bars, one below the other."""
    body, label = [_text(20, 24, title, 'font-weight="bold"')], 220
    for index, (name, share) in enumerate(shares.items()):
        top, long = TOP + 28 * index, share * (WIDTH - label - 80)
        body.append(_text(20, top + 15, name))
        body.append(f'<rect x="{label}" y="{top}" width="{long:.1f}" height="20" fill="{COLOURS[0]}"/>')
        body.append(_text(label + long + 6, top + 15, f"{share:.1%}"))
    return _page(TOP + 28 * len(shares) + 20, body)


def curve(title: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Shares from 0 to 1 over a number; the numbers stand at equal distances."""
    places = sorted({at for points in lines.values() for at, _ in points})
    step = (WIDTH - LEFT - 160) / max(1, len(places) - 1)
    span = HEIGHT - TOP - BOTTOM
    body = [_text(20, 24, title, 'font-weight="bold"')]
    for share in (0.0, 0.5, 1.0):
        y = TOP + span * (1 - share)
        body.append(f'<line x1="{LEFT}" x2="{WIDTH - 160}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ccc"/>')
        body.append(_text(20, y + 4, f"{share:.0%}"))
    body += [_text(LEFT + step * index - 8, HEIGHT - 15, f"{at:g}") for index, at in enumerate(places)]
    for index, (name, points) in enumerate(lines.items()):
        colour = COLOURS[index % len(COLOURS)]
        spots = [(LEFT + step * places.index(at), TOP + span * (1 - share)) for at, share in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        body.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        body.append(_text(WIDTH - 150, TOP + 20 * index + 12, name, f'fill="{colour}"'))
    return _page(HEIGHT, body)
