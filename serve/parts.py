"""Who was asked for and got no part: planners keep to few characters a scene, and leave out others.

Where a server is asked, the story's plan names those who are in it.
"""

from collections.abc import Collection, Iterable

from rich.console import Console

from pipelines.plan import slug


def tell_partless(console: Console, asked: Iterable[str], planned: Collection[str]) -> None:
    """A line on those, by name, who are in no scene, and what helps."""
    seen = {slug(name) for name in planned}
    partless = [name for name in asked if slug(name) not in seen]
    if partless:
        told = f"The plan has no part for {', '.join(partless)}; more scenes leave more room."
        console.print(told, markup=False, highlight=False, soft_wrap=True)
