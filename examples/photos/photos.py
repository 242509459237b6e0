# /// script
# requires-python = ">=3.11"
# dependencies = ["pillow>=11"]
# ///
"""Develop one photograph: its dominant colours, a painting and a pencil sketch of it, and its histogram.

    fallow map examples/photos/photos.py examples/photos/*.jpg --output developed

Runs on a node, in a sandbox without network. Reads /in/input; leaves /out/card.png for people, /out/card.ppm (the same
picture, for programs without an image library) and /out/colours.json.
"""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

IN, OUT = Path("/in/input"), Path("/out")
WIDTH, HEIGHT = 400, 380
PICTURE = (400, 280)
COLOURS = 6
PAPER, INK, DIM = (24, 25, 29), (236, 234, 228), (128, 130, 138)
RED, GREEN, BLUE = (226, 92, 84), (108, 190, 122), (92, 146, 232)


def main() -> None:
    """Develop the photograph and print what was found."""
    with Image.open(IN) as source:
        title = source.info.get("comment", b"").decode(errors="replace") or "untitled"
        photo = ImageOps.fit(source.convert("RGB"), PICTURE, Image.Resampling.LANCZOS, centering=(0.5, 0.35))
    colours = dominant(photo)
    card = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    card.paste(split(painting(photo), sketch(photo)), (0, 0))
    draw = ImageDraw.Draw(card)
    name, _, author = title.partition(", ")
    draw.text((14, 290), name, font=ImageFont.load_default(15), fill=INK)
    draw.text((WIDTH - 14, 292), author, font=ImageFont.load_default(12), fill=DIM, anchor="ra")
    palette(draw, colours, (14, 318, 194, 366))
    card.paste(histogram(photo, (186, 48)), (200, 318))
    card.save(OUT / "card.png", optimize=True)
    OUT.joinpath("card.ppm").write_bytes(b"P6\n%d %d\n255\n" % card.size + card.tobytes())
    found = [{"colour": f"#{red:02x}{green:02x}{blue:02x}", "share": share} for (red, green, blue), share in colours]
    OUT.joinpath("colours.json").write_text(json.dumps({"title": title, "colours": found}, indent=2))
    print(f"{name}: {' '.join(str(one['colour']) for one in found)}")


def dominant(photo: Image.Image) -> list[tuple[tuple[int, int, int], float]]:
    """The colours that stand for most of the picture, each with its share of it; the most frequent one first."""
    small = photo.resize((160, 112), Image.Resampling.BOX).quantize(COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=3)
    flat = small.getpalette() or []
    counts = sorted(small.getcolors() or [], reverse=True)
    total = sum(count for count, _ in counts)
    colours = []
    for count, index in counts:
        red, green, blue = flat[3 * int(index) : 3 * int(index) + 3]
        colours.append(((red, green, blue), round(count / total, 4)))
    return colours


def painting(photo: Image.Image) -> Image.Image:
    """Paint it in oil: strokes of the most frequent colour around, with the light and the edges of the photograph."""
    vivid = ImageEnhance.Color(photo).enhance(1.25)
    strokes = ImageOps.posterize(vivid, 5).filter(ImageFilter.ModeFilter(7)).filter(ImageFilter.ModeFilter(5))
    blended = Image.blend(strokes, vivid.filter(ImageFilter.MedianFilter(5)), 0.5)
    relief = ImageOps.grayscale(blended).filter(ImageFilter.EMBOSS).convert("RGB")
    return ImageChops.soft_light(blended, relief)


def sketch(photo: Image.Image) -> Image.Image:
    """Draw it in pencil on warm paper: what is darker than its surroundings leaves graphite."""
    grey = ImageOps.grayscale(photo)
    around = ImageOps.invert(grey).filter(ImageFilter.GaussianBlur(7))
    lines = Image.blend(grey, around, 0.5).point([min(255, max(0, 255 - abs(127 - level) * 9)) for level in range(256)])
    shade = grey.point([min(255, 120 + level) for level in range(256)])
    drawn = ImageChops.multiply(lines, shade)
    return ImageOps.colorize(drawn, (38, 40, 48), (244, 238, 224))


def split(left: Image.Image, right: Image.Image) -> Image.Image:
    """One picture on the left of a slanted line, the other one on its right."""
    width, height = left.size
    edge = [(width * 0.62, 0), (width * 0.42, height)]
    scale = 4  # drawn larger and shrunk, so that the line has no steps
    mask = Image.new("L", (width * scale, height * scale), 0)
    corners = [(0, 0), *edge, (0, height)]
    ImageDraw.Draw(mask).polygon([(x * scale, y * scale) for x, y in corners], fill=255)
    both = Image.composite(left, right, mask.resize(left.size, Image.Resampling.LANCZOS))
    ImageDraw.Draw(both).line(edge, fill=PAPER, width=3)
    return both


def palette(
    draw: ImageDraw.ImageDraw, colours: list[tuple[tuple[int, int, int], float]], box: tuple[int, int, int, int]
) -> None:
    """Show the colours side by side: each wide enough to be seen, more of it where there is more."""
    left, top, right, bottom = box
    least = (right - left) / (2 * len(colours))
    x = float(left)
    for colour, share in colours:
        width = least + share * (right - left) / 2
        draw.rectangle((round(x), top, round(x + width) - 2, bottom), fill=colour)
        x += width


def histogram(photo: Image.Image, size: tuple[int, int]) -> Image.Image:
    """How often each level of red, green and blue occurs; where they overlap their light adds up."""
    width, height = size
    shown = Image.new("RGB", (256, height), PAPER)
    for channel, colour in zip(photo.split(), (RED, GREEN, BLUE), strict=True):
        counts = channel.filter(ImageFilter.BoxBlur(1)).histogram()
        highest = sorted(counts)[-6] or 1  # a few levels (black, white) often tower over all others
        bars = Image.new("RGB", (256, height), (0, 0, 0))
        draw = ImageDraw.Draw(bars)
        dimmed = tuple(value * 9 // 20 for value in colour)
        for level, count in enumerate(counts):
            top = height - round(min(1.0, (count / highest) ** 0.7) * (height - 1))
            draw.line((level, height, level, top), fill=dimmed)
        shown = ImageChops.add(shown, bars)
    return shown.resize((width, height), Image.Resampling.LANCZOS)


main()
