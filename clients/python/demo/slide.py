"""Stage `image-N`: the slide of a scene. A plain function: it computes, so it works in a thread."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from interlock import Attempt

_WIDTH, _HEIGHT = 1280, 720
# Drawn larger and scaled down, for smooth edges.
_SCALE = 2
_TOP, _BOTTOM = (16, 24, 40), (34, 52, 78)
_INK, _FAINT, _RAIL = (240, 242, 245), (150, 165, 185), (110, 125, 145)
_GREEN, _RED, _AMBER = (80, 200, 120), (214, 72, 66), (245, 190, 70)


def draw(attempt: Attempt, directory: Path) -> dict[str, Any]:
    """Draws the background, a track with a signal for each scene, and the text."""
    scene, count = attempt.input["scene"], attempt.input["scenes"]
    attempt.report(0.0, "background")
    image = _background()
    pen = ImageDraw.Draw(image)
    attempt.report(0.4, "track")
    _track(pen, scene, count)
    attempt.report(0.6, "text")
    _text(pen, f"{scene} / {count}", attempt.input["title"], attempt.input["text"])
    attempt.report(0.8, "saving")
    image = image.resize((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS)
    target = directory / f"{attempt.stage_name}.png"
    unfinished = target.with_suffix(f".{attempt.fencing_token}.part")
    image.save(unfinished, "PNG")
    unfinished.replace(target)
    return {"file": str(target), "width": _WIDTH, "height": _HEIGHT, "bytes": target.stat().st_size}


def _background() -> Image.Image:
    """Dark above, a little lighter below."""
    column = Image.new("RGB", (1, _HEIGHT))
    for y in range(_HEIGHT):
        part = y / (_HEIGHT - 1)
        shade = [round(top + (bottom - top) * part) for top, bottom in zip(_TOP, _BOTTOM, strict=True)]
        column.putpixel((0, y), (shade[0], shade[1], shade[2]))
    return column.resize((_WIDTH * _SCALE, _HEIGHT * _SCALE))


def _track(pen: ImageDraw.ImageDraw, scene: int, count: int) -> None:
    """The train has passed the scenes before, stands at this one, and finds red signals behind it."""
    left, right, y = 90, _WIDTH - 90, 610
    for x in range(left - 40, right + 41, 22):
        _line(pen, (x, y - 11), (x, y + 11), _RAIL, 4)
    for rail in (-6, 6):
        _line(pen, (left - 50, y + rail), (right + 50, y + rail), _FAINT, 3)
    step = (right - left) / max(1, count - 1)
    for number in range(1, count + 1):
        x = round(left + step * (number - 1))
        colour = _RED if number < scene else _GREEN if number > scene else _AMBER
        _line(pen, (x, y - 16), (x, y - 62), _FAINT, 4)
        _disc(pen, (x, y - 74), 13, colour)
    train = round(left + step * (scene - 1))
    box = [(train - 46) * _SCALE, (y - 22) * _SCALE, (train + 46) * _SCALE, (y + 16) * _SCALE]
    pen.rounded_rectangle(box, radius=10 * _SCALE, fill=_AMBER)
    for wheel in (-26, 26):
        _disc(pen, (train + wheel, y + 16), 8, _TOP)


def _text(pen: ImageDraw.ImageDraw, number: str, title: str, text: str) -> None:
    def write(x: int, y: int, words: str, size: int, colour: tuple[int, int, int]) -> None:
        # The font that Pillow carries, so that every machine draws the same.
        font = ImageFont.load_default(size * _SCALE)
        pen.text((x * _SCALE, y * _SCALE), words, font=font, fill=colour)

    write(90, 70, number, 26, _FAINT)
    write(90, 110, title, 60, _INK)
    for index, line in enumerate(textwrap.wrap(text, 56)):
        write(90, 225 + 50 * index, line, 34, _INK)


def _line(
    pen: ImageDraw.ImageDraw, start: tuple[int, int], end: tuple[int, int], colour: tuple[int, int, int], width: int
) -> None:
    points = [(start[0] * _SCALE, start[1] * _SCALE), (end[0] * _SCALE, end[1] * _SCALE)]
    pen.line(points, fill=colour, width=width * _SCALE)


def _disc(pen: ImageDraw.ImageDraw, centre: tuple[int, int], radius: int, colour: tuple[int, int, int]) -> None:
    x, y = centre
    box = [(x - radius) * _SCALE, (y - radius) * _SCALE, (x + radius) * _SCALE, (y + radius) * _SCALE]
    pen.ellipse(box, fill=colour)
