"""`python -m deepmac.samples`: writes a `shapes` set."""

import sys

import click
from rich.progress import Progress

from deepmac.commands import run
from deepmac.data.paths import require_local
from deepmac.samples.write import write_shapes


@click.command()
@click.option("--out", required=True, help="Directory for the set.")
@click.option("--num_images", default=100, show_default=True, help="Pictures.")
@click.option("--size", default=256, show_default=True, help="Pixels a side.")
@click.option("--seed", default=0, show_default=True, help="Decides everything.")
@click.option(
    "--crowds",
    default=0.0,
    show_default=True,
    help="Fraction of pictures with a crowd.",
)
@click.option("--num_workers", default=1, show_default=True, help="Processes.")
def command(out: str, num_images: int, **options) -> None:
    """Writes a generated set: pictures, COCO annotations, category names of its two groups."""
    with Progress(transient=True) as bar:
        task = bar.add_task("Pictures", total=num_images)
        paths = write_shapes(
            require_local(out),
            num_images,
            **options,
            on_image=lambda num_done: bar.update(task, completed=num_done),
        )
    print(
        f"{num_images} pictures in {paths.images}, annotations in {paths.annotations}"
    )


if __name__ == "__main__":
    sys.exit(run(command, prog_name="python -m deepmac.samples"))
