"""Images of one's own, from profile to verified file, and a search on them beside MobileNetV2.

The images stand for a user's photographs: five kinds of shapes at any place, size, angle and colour
on a noisy ground, drawn from a seed, 96 x 96 pixels, a folder per class. First the commands of a
user, one after the other, for a network in the middle of what the device can do. Then members at
six budgets over a factor of eight, and MobileNetV2 by width and depth, all trained from random
weights with one recipe (`benchmarks.by_hand.by_hand`).
"""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import nn

from benchmarks import Progress
from benchmarks.by_hand import by_hand
from benchmarks.by_hand.networks import Rung, mobilenet_v2
from benchmarks.report import Figure
from benchmarks.stack import running_stack, this_device
from search.config import PRESETS
from search.own_model.onnx_export import to_onnx
from search.runs.run_directory import RunDirectory, on_device
from shared.spaces import make_space

SIDE, KINDS = 96, ("cross", "disc", "ring", "square", "triangle")
TRAINING, TEST = 400, 100
"""Images per kind."""
NOISE = 30.0
SPACE = make_space("mobile", resolution=SIDE, channels=8, depth=2, classes=len(KINDS))
EPOCHS, SEEDS = 30.0, 3
USER_EPOCHS = 20
FOLDER = by_hand.RUNS.with_name("by_hand_own_images")
QUICK = ("--preset", "quick")


class MobileNetV2(Rung):
    """A MobileNetV2 for these images."""

    def build(self) -> nn.Module:
        """The network; weights are drawn from torch's own generator."""
        return mobilenet_v2(self.width, self.depth, large_images=True, classes=len(KINDS))

    def export(self) -> bytes:
        """ONNX bytes for one image."""
        return to_onnx(self.build(), torch.zeros(1, 3, SIDE, SIDE))


LADDER = tuple(
    MobileNetV2("mobilenet_v2", width, depth) for width in (0.1, 0.25, 0.35, 0.5) for depth in (0.25, 0.5, 1.0)
)


def run(progress: Progress, seeds: int = SEEDS) -> dict[str, Figure]:
    """Figures `own_images.*` and `by_hand.drawn.*`; takes half an hour."""
    images = FOLDER / "images"
    draw_images(images)
    return {**as_a_user(images, progress), **beside_mobilenet(images, seeds, progress)}


def as_a_user(images: Path, progress: Progress) -> dict[str, Figure]:
    """Profile, search, train, export, verify, one command after the other."""
    with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder)) as stack:
        out, onnx = Path(folder) / "search", Path(folder) / "network.onnx"
        begun_s, device = time.monotonic(), this_device()
        progress("own_images: profile, search, train, export, verify")
        stack.profile(device, "--space", str(SPACE), *QUICK)
        stack.search(
            "--device", device, "--lut-url", stack.url, "--space", str(SPACE), "--dataset", f"folder:{images}", *QUICK,
            "--out", str(out),
        )  # fmt: skip
        table = on_device(RunDirectory(out)).table
        budget_ms = str(median(network.upper_ms for network in table.networks))
        stack.search("train", "--run", str(out), "--max-latency-ms", budget_ms, "--epochs", str(USER_EPOCHS))
        (trained,) = (out / "trained").glob("*/seed-*")
        stack.search("export", "--run", str(out), "--trained", str(trained), "--out", str(onnx))
        with stack.working_agent(device):
            stack.search("verify", "--run", str(out), "--onnx", str(onnx), "--max-latency-ms", budget_ms)
        seconds = time.monotonic() - begun_s
    return {"own_images.seconds": Figure(value=seconds, unit="s", n=1, bar="<= 1200")}


def beside_mobilenet(images: Path, seeds: int, progress: Progress) -> dict[str, Figure]:
    """As `benchmarks.by_hand.by_hand` does, with these images."""
    effort = by_hand.Effort(
        folder=FOLDER,
        spaces=(SPACE,),
        ladders=LADDER,
        data_set=("drawn", f"folder:{images}", None),
        profile=QUICK,
        settings={**PRESETS["quick"], "search_resolution": SIDE // 2},
        epochs=EPOCHS,
    )
    return by_hand.run(progress, seeds, effort)


def draw_images(folder: Path, training: int = TRAINING, test: int = TEST) -> None:
    """Write the images into `folder`/{train,test}/KIND, unless they are there."""
    if folder.is_dir():
        return
    random, unfinished = np.random.default_rng(0), folder.with_suffix(".part")
    for split, count in (("train", training), ("test", test)):
        for kind in KINDS:
            place = unfinished / split / kind
            place.mkdir(parents=True, exist_ok=True)
            for index in range(count):
                draw_image(kind, random).save(place / f"{index:04d}.png")
    unfinished.rename(folder)


def draw_image(kind: str, random: np.random.Generator) -> Image.Image:
    """One image: a shape of the kind, half-transparent strokes over it, noise."""
    image = Image.new("RGB", (SIDE, SIDE), _colour(random))
    brush = ImageDraw.Draw(image, "RGBA")
    radius = random.uniform(10, 30)
    x, y = random.uniform(radius, SIDE - radius, 2)
    _draw_shape(brush, kind, x, y, radius, random.uniform(0, 2 * math.pi), (*_colour(random), 200))
    for _ in range(6):
        brush.line([*random.uniform(0, SIDE, 4)], fill=(*_colour(random), 160), width=int(random.integers(1, 5)))
    pixels = np.asarray(image) + random.normal(0, NOISE, (SIDE, SIDE, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _draw_shape(
    brush: ImageDraw.ImageDraw, kind: str, x: float, y: float, radius: float, angle: float, fill: tuple[int, ...]
) -> None:
    def corners(count: int, turned: float = 0.0, scale: float = 1.0) -> list[tuple[float, float]]:
        angles = [angle + turned + 2 * math.pi * corner / count for corner in range(count)]
        return [(x + scale * radius * math.cos(each), y + scale * radius * math.sin(each)) for each in angles]

    box = (x - radius, y - radius, x + radius, y + radius)
    if kind == "disc":
        brush.ellipse(box, fill=fill)
    elif kind == "ring":
        brush.ellipse(box, outline=fill, width=max(3, int(radius / 3)))
    elif kind == "cross":
        for a, b in zip(corners(4)[:2], corners(4)[2:], strict=True):
            brush.line([a, b], fill=fill, width=max(3, int(radius / 3)))
    else:
        brush.polygon(corners(3 if kind == "triangle" else 4), fill=fill)


def _colour(random: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = random.integers(0, 256, 3)
    return int(red), int(green), int(blue)
