"""Options for training a network to the end: a recipe by name, each of its settings, and seeds."""

from __future__ import annotations

import argparse
from typing import Any

from search.config import Config
from search.retraining.retrain import RECIPES, SETTINGS, SHORT_UP_TO_EPOCHS, RetrainingSettings
from shared.errors import InvalidValue


def add_recipe(parser: argparse.ArgumentParser, seeds: int, seeds_help: str) -> None:
    """--seeds, --recipe, and an option for each setting of the recipe."""
    parser.add_argument("--seeds", type=int, default=seeds, metavar="N", help=f"{seeds_help} (default: %(default)d)")
    parser.add_argument(
        "--recipe",
        choices=RECIPES,
        help=f"defaults of the settings (short up to {SHORT_UP_TO_EPOCHS} epochs, darts beyond)",
    )
    advanced = parser.add_argument_group("advanced")
    for name, (default, help_text) in SETTINGS.items():
        others = "".join(f", {recipe}: {own[name]:g}" for recipe, own in RECIPES.items() if name in own)
        advanced.add_argument(
            "--" + name.replace("_", "-"),
            type=type(default),
            metavar="X",
            help=f"{help_text} (default: {default}{others})",
        )


def chosen_settings(args: argparse.Namespace, config: Config, inherit: bool = False) -> list[RetrainingSettings]:
    """Settings for each seed, from the run's seed on: options, overriding the recipe.

    Raises:
        InvalidValue: a setting is outside its domain.
    """
    if args.seeds < 1:
        raise InvalidValue("seeds", f"{args.seeds} is not 1 or more")
    epochs = SETTINGS["epochs"][0] if args.epochs is None else args.epochs
    given = {name: value for name in SETTINGS if (value := getattr(args, name)) is not None}
    chosen: dict[str, Any] = {**RECIPES[args.recipe or ("short" if epochs <= SHORT_UP_TO_EPOCHS else "darts")], **given}
    seeds = range(config.seed, config.seed + args.seeds)
    return [RetrainingSettings(**chosen, seed=seed, inherit=inherit, precision=config.precision) for seed in seeds]
