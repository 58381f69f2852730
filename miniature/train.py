"""`python -m miniature.train NAME`: train one model of the miniature, from its recipe.

A finished run writes the model's official folder and its figures; a run stopped by `--minutes`
leaves its state, and the same command goes on from there.
"""

import argparse
import importlib
import json
import logging
import os
import time
from pathlib import Path

from miniature.run import Run
from miniature.saving import write_figures

RECIPES = ("vae", "base", "clip", "viclip", "dino", "detector", "planner", "judge")
CHECKPOINTS = Path(__file__).parent / "checkpoints"
FOLDERS = {"vae": "cogvideox", "base": "cogvideox"}

log = logging.getLogger("miniature.train")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m miniature.train", description=__doc__)
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--out", type=Path, help="model folder (default: the shipped one)")
    parser.add_argument("--state", type=Path, help="resumable state (default: .train/NAME)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=24.0, help="stop and save after this")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--pause", action="store_true", help="to be continued: do not anneal")
    parser.add_argument("--tiny", action="store_true", help="seconds-long dry run on a CPU")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    name = str(args.name)
    run = Run(
        out=args.out or CHECKPOINTS / FOLDERS.get(name, name),
        state=args.state or Path(".train") / name,
        seed=args.seed,
        minutes=args.minutes,
        device=args.device,
        tiny=args.tiny,
        pause=args.pause,
    )
    start = time.monotonic()
    figures: dict[str, float] = importlib.import_module(f"miniature.recipes.{name}").train(run)
    figures["minutes"] = (time.monotonic() - start) / 60
    folder = run.out / "vae" if name == "vae" else run.out
    write_figures(folder, figures)
    log.info("%s %s", name, json.dumps(figures, sort_keys=True))


if __name__ == "__main__":
    main()
