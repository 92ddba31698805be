"""Curves as SVG, written by hand: no library, no script, readable on a light and a dark page."""

import html
import math

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 360, 76, 190, 44, 56
COLOURS = ["#1f6feb", "#d1620f", "#2a9d4b", "#8b5cf6", "#c9304f", "#5f6b7a"]


def logarithmic(values):
    """The ticks of an axis in powers of ten, and where a value lies on it, from 0 to 1."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    return [10.0 ** power for power in range(low, high + 1)], lambda value: (math.log10(value) - low) / (high - low)


def short(value):
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def plot(title, across, up, series):
    """A plot with both axes logarithmic.

    series: {name: [(x, y), …]}, all numbers above 0. Returns the text of an SVG file."""
    points = [point for line in series.values() for point in line if point[0] > 0 and point[1] > 0]
    if not points:
        raise ValueError(f"{title}: there is nothing to draw")
    x_ticks, x_of = logarithmic([x for x, _ in points])
    y_ticks, y_of = logarithmic([y for _, y in points])

    def place(x, y):
        return (LEFT + x_of(x) * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y_of(y) * (HEIGHT - TOP - BOTTOM))

    def text(x, y, words, anchor="middle", more=""):
        return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{html.escape(words)}</text>'

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
             f'font-size="12" role="img" aria-label="{html.escape(title)}">',
             "<style>svg{background:#fff;color:#222}text{fill:currentColor}.grid{stroke:#8884;stroke-width:1}"
             "@media(prefers-color-scheme:dark){svg{background:#0d1117;color:#ddd}}</style>",
             text(LEFT, 22, title, "start", 'font-size="15" font-weight="600"')]
    for tick in x_ticks:
        x, _ = place(tick, y_ticks[0])
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(text(x, HEIGHT - BOTTOM + 18, short(tick)))
    for tick in y_ticks:
        _, y = place(x_ticks[0], tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(text(LEFT - 8, y + 4, short(tick), "end"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, across))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(text(18, middle, up, "middle", f'transform="rotate(-90 18 {middle:.1f})"'))
    for number, (name, line) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        places = [place(x, y) for x, y in sorted(line) if x > 0 and y > 0]
        if not places:
            continue
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="'
                     + " ".join(f"{x:.1f},{y:.1f}" for x, y in places) + '"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        parts.append(f'<rect x="{WIDTH - RIGHT + 14}" y="{TOP + 22 * number}" width="12" height="12" fill="{colour}"/>')
        parts.append(text(WIDTH - RIGHT + 32, TOP + 22 * number + 10, name, "start"))
    return "\n".join([*parts, "</svg>", ""])
