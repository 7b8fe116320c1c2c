"""`deepmac export`: a network as files that run without deepmac."""

from pathlib import Path

import click

from deepmac.data.paths import require_local
from deepmac.errors import DeepmacError
from deepmac.export import INPUT_TYPES

_INPUTS = "; ".join(f"{name}: {what}" for name, what in INPUT_TYPES.items())


@click.command("export")
@click.option(
    "--model",
    required=True,
    metavar="NAME|PATH",
    help="A configuration, by name or path.",
)
@click.option("--checkpoint", required=True, metavar="PATH", help="Its weights.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Changes a value of the configuration; may be given several times.",
)
@click.option(
    "--accept",
    multiple=True,
    metavar="PATTERN",
    help="Variables of the model, by name or pattern, that the checkpoint need not fit.",
)
@click.option(
    "--to",
    "form",
    required=True,
    type=click.Choice(["saved_model", "onnx"]),
    help="What to write.",
)
@click.option(
    "--input_type",
    type=click.Choice(list(INPUT_TYPES)),
    default="image_and_boxes_tensor",
    show_default=True,
    metavar="TYPE",
    help=f"What it takes. {_INPUTS}.",
)
@click.option("--out", required=True, metavar="DIR", help="Directory to write.")
@click.option(
    "--reference_quirks",
    is_flag=True,
    help="Do everything as the reference does, also what it does wrongly.",
)
@click.option("--overwrite", is_flag=True, help="Replace an export that is there.")
def command(
    model: str,
    checkpoint: str,
    overrides: tuple[str, ...],
    accept: tuple[str, ...],
    form: str,
    input_type: str,
    out: str,
    reference_quirks: bool,
    overwrite: bool,
) -> None:
    """Write a network as a SavedModel, which takes images as they are.

    Decoding, resizing and padding are inside, the signature is that of the reference's exporter.
    What was written is opened again and compared with the network before the command succeeds.
    """
    if form == "onnx":
        raise DeepmacError("'export --to onnx' is not available yet")
    # Keras takes seconds to come; a mistake should be told before.
    from deepmac.checkpoint.locate import locate
    from deepmac.config.load import load_config
    from deepmac.export.destination import check_out

    folder = Path(require_local(out))
    check_out(folder, overwrite=overwrite)
    locate(checkpoint)
    config = load_config(model, overrides)
    from deepmac.backend import require_tensorflow

    require_tensorflow("exporting a SavedModel")
    from deepmac.export.saved_model import export_saved_model
    from deepmac.predictors.deepmac import load_network

    network = load_network(
        model,
        checkpoint=checkpoint,
        overrides=overrides,
        accept=accept,
        reference_quirks=reference_quirks or None,
    )
    comparison = export_saved_model(
        network, config, folder, input_type=input_type, overwrite=overwrite
    )
    name, difference = comparison.largest()
    click.echo(f"wrote {out}")
    click.echo(
        f"compared with the network on {comparison.num_images} images: the largest difference is "
        f"{difference:.2g}, of {name}"
    )
