"""`deepmac train`: a network from a configuration and records."""

from collections.abc import Callable
from typing import Any

import click

from deepmac.errors import OptionError

STOPPED = 143
"""Exit status of a run that was told to stop, and can go on: 128 and SIGTERM's number."""


_TPU = "not needed; on a TPU host install jax[tpu] and set KERAS_BACKEND=jax"
_APART = (
    "evaluation by itself is `deepmac label` with --boxes given, then `deepmac evaluate`; during "
    "training it happens by itself"
)
_EXPLAINED = {
    "--use_tpu": _TPU,
    "--tpu_name": _TPU,
    "--checkpoint_dir": _APART,
    "--eval_timeout": _APART,
    "--eval_on_train_data": "name the training records in eval_input_reader",
    "--sample_1_of_n_eval_on_train_examples": "see --sample_1_of_n_eval_examples",
}
"""Flags of the reference that are not taken, and what to do in place of them."""

_IGNORED = ("--alsologtostderr", "--logtostderr")
"""Flags in its documented commands that ask for what happens in any case."""


def _of_the_reference(command: Callable[..., Any]) -> Callable[..., Any]:
    """Lets a command know the flags of the reference that it does not need."""

    def explain(context: click.Context, option: click.Parameter, value: str | None):
        if value is not None and value.lower() not in ("false", "0"):
            name = option.opts[0]
            raise OptionError(f"{name}: {_EXPLAINED[name]}")

    options: dict[str, Any] = {
        "is_flag": False,
        "flag_value": "true",
        "hidden": True,
        "expose_value": False,
    }
    for name in _EXPLAINED:
        command = click.option(name, callback=explain, **options)(command)
    for name in _IGNORED:
        command = click.option(name, **options)(command)
    return command


@click.command("train")
@click.option(
    "--pipeline_config_path",
    required=True,
    metavar="NAME|PATH",
    help="A configuration, by name or path.",
)
@click.option(
    "--model_dir",
    required=True,
    metavar="DIR",
    help="Where checkpoints and summaries go, local or gs://. A run that is there goes on from its last one.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Changes a value of the configuration; may be given several times.",
)
@click.option(
    "--num_train_steps",
    type=click.IntRange(min=1),
    help="Steps of the whole run; default: those of the configuration.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Decides the fresh weights, the order of the images and the augmentation.",
)
@click.option(
    "--checkpoint_every_n",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Steps between two checkpoints.",
)
@click.option(
    "--checkpoint_max_to_keep",
    type=click.IntRange(min=1),
    default=7,
    show_default=True,
    help="Checkpoints to keep, the newest ones.",
)
@click.option(
    "--evaluate_every_n",
    type=click.IntRange(min=0),
    help="Steps between two evaluations on eval_input_reader; 0: none. Default: with each "
    "checkpoint.",
)
@click.option(
    "--sample_1_of_n_eval_examples",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Evaluate one image in so many.",
)
@click.option(
    "--num_devices",
    type=click.IntRange(min=1),
    help="Devices that share a step; default: all GPUs or TPU cores, or the processor.",
)
@click.option(
    "--distributed",
    is_flag=True,
    help="Share each step with other hosts that run the same command (JAX); --model_dir is on "
    "storage of all of them.",
)
@click.option(
    "--accumulation_steps",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Parts that a batch is computed in, one after the other, where memory is short.",
)
@click.option(
    "--normaliser_groups",
    type=click.IntRange(min=1),
    help="Parts of a batch whose losses are normalised each by itself, as on the replicas of the "
    "reference (32 and 128 of the published runs); 1: the whole batch. Default: one for each "
    "device and accumulation step.",
)
@click.option(
    "--rematerialise",
    is_flag=True,
    help="Compute activations twice in place of keeping them: less memory (JAX).",
)
@click.option(
    "--on_non_finite",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="After a step whose loss or gradient is not finite, which never changes the weights.",
)
@click.option(
    "--on_bad_record",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="At a record that cannot be used; skipped ones are counted.",
)
@click.option(
    "--num_workers",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Processes that make batches; 0: threads of this one.",
)
@click.option(
    "--mask_slots",
    type=click.IntRange(min=1),
    help="Train masks on so many instances of an image, of those whose masks train; default: on "
    "every slot for instances (max_number_of_boxes), empty or not, as the reference does. Fewer "
    "are as much faster.",
)
@click.option(
    "--record_summaries",
    is_flag=False,
    flag_value="true",
    type=bool,
    default=True,
    metavar="true|false",
    show_default=True,
    help="Write losses, rates, scores and pictures for TensorBoard.",
)
@click.option(
    "--reference_quirks",
    is_flag=True,
    help="Do everything as the reference does, also what it does wrongly.",
)
@_of_the_reference
def command(
    pipeline_config_path: str,
    model_dir: str,
    overrides: tuple[str, ...],
    num_train_steps: int | None,
    seed: int,
    checkpoint_every_n: int,
    checkpoint_max_to_keep: int,
    evaluate_every_n: int | None,
    sample_1_of_n_eval_examples: int,
    num_devices: int | None,
    distributed: bool,
    accumulation_steps: int,
    normaliser_groups: int | None,
    rematerialise: bool,
    on_non_finite: str,
    on_bad_record: str,
    num_workers: int,
    mask_slots: int | None,
    record_summaries: bool,
    reference_quirks: bool,
) -> int:
    """Train a network on records.

    Runs on TensorFlow, or on JAX (KERAS_BACKEND=jax), the faster one on GPUs and TPUs. A run that
    was stopped or killed goes on from its last checkpoint when the same command is given again,
    and ends with the same weights as if it had not been stopped.
    """
    # Keras takes seconds to come; a mistake should be told before.
    from deepmac.backend import import_tensorflow_quietly, select_backend
    from deepmac.config.load import load_config

    config = load_config(pipeline_config_path, overrides)
    select_backend()
    click.echo(f"training to {model_dir}; opening Keras", err=True)
    import_tensorflow_quietly()
    from deepmac.train.run import RunOptions, train

    options = RunOptions(
        model_dir=model_dir,
        num_steps=num_train_steps,
        seed=seed,
        num_devices=num_devices,
        distributed=distributed,
        accumulation_steps=accumulation_steps,
        normaliser_groups=normaliser_groups,
        rematerialise=rematerialise,
        checkpoint_every=checkpoint_every_n,
        keep=checkpoint_max_to_keep,
        evaluate_every=evaluate_every_n,
        evaluate_every_nth=sample_1_of_n_eval_examples,
        skip_non_finite=on_non_finite == "skip",
        num_workers=num_workers,
        mask_slots=mask_slots,
        skip_bad_records=on_bad_record == "skip",
        record_summaries=record_summaries,
        reference_quirks=reference_quirks or None,
    )
    if train(config, options):
        click.echo(f"{model_dir}: trained; label with --checkpoint {model_dir}")
        return 0
    click.echo(f"{model_dir}: stopped; the same command goes on from there", err=True)
    return STOPPED
