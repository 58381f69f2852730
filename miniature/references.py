"""`python -m miniature.references OUT`: reference images of the held-out characters.

What a user of the miniature would have of a character nobody trained on: a few pictures, in
different places and poses, of one frame each.
"""

import argparse
from pathlib import Path

import torch
from PIL import Image

from miniature.cast import HELD_OUT_CHARACTERS
from miniature.world import Puppet, Spec, render

SIZE_PX = (288, 432)
POSES = (
    ("waving", "park", 0.75, 1),
    ("walking", "beach", 0.60, -1),
    ("sitting", "meadow", 0.90, 1),
    ("dancing", "kitchen", 0.70, -1),
    ("nodding", "desert", 0.55, 1),
    ("boxing", "forest", 0.85, -1),
    ("cheering", "snow", 0.70, 1),
    ("running", "garden", 0.95, -1),
)


def references(character: str) -> list[Image.Image]:
    """One picture a pose, (432 x 288)."""
    specs = [
        Spec(
            place=place,
            seed=100 + index,
            puppets=(
                Puppet(
                    character=character,
                    motions=(motion,),
                    x0=x,
                    x1=x,
                    ground=0.93,
                    height=0.7,
                    phase=0.13 * index,
                    facing=facing,
                ),
            ),
        )
        for index, (motion, place, x, facing) in enumerate(POSES)
    ]
    drawn = render(specs, size_px=SIZE_PX, frame_indices=torch.tensor([6]))
    pixels = (drawn.frames[:, 0] * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(picture) for picture in pixels]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m miniature.references", description=__doc__)
    parser.add_argument("out", type=Path, help="folder of characters, such as examples/characters")
    args = parser.parse_args()
    for character in HELD_OUT_CHARACTERS:
        folder = args.out / character
        folder.mkdir(parents=True, exist_ok=True)
        for index, picture in enumerate(references(character), start=1):
            picture.save(folder / f"{index}.png", optimize=True)


if __name__ == "__main__":
    main()
