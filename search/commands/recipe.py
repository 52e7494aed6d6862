"""How a network is trained to the end, as options: a recipe by name, and every setting of it."""

from __future__ import annotations

import argparse
from typing import Any

from search.retraining.retrain import RECIPES, SETTINGS, SHORT_UP_TO_EPOCHS


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Options for the recipe and for each of its settings."""
    parser.add_argument(
        "--recipe",
        choices=RECIPES,
        help=f"what settings are by default (short up to {SHORT_UP_TO_EPOCHS} epochs, darts beyond)",
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


def chosen_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Every setting by name: what was given, else what the recipe says."""
    epochs: int = SETTINGS["epochs"][0] if args.epochs is None else args.epochs  # type: ignore[assignment]
    recipe = RECIPES[args.recipe or ("short" if epochs <= SHORT_UP_TO_EPOCHS else "darts")]
    defaults = {name: recipe.get(name, default) for name, (default, _) in SETTINGS.items()}
    return {name: defaults[name] if getattr(args, name) is None else getattr(args, name) for name in SETTINGS}
