"""A training run from its options: opens what it needs, in the order in which mistakes are cheap."""

import collections
import contextlib
import dataclasses
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras

from deepmac.backend import repeatable_weights
from deepmac.checkpoint.facts import infer_embedding_kernel
from deepmac.checkpoint.load import Weights, load_backbone, load_weights, open_weights
from deepmac.checkpoint.native import NativeWeights
from deepmac.config.notes import PLACEHOLDER, unused_fields
from deepmac.config.schema import PipelineConfig
from deepmac.config.training_schema import CheckpointVersion
from deepmac.data.directory import open_records
from deepmac.data.foreign import with_categories
from deepmac.data.input import TrainingInput, training_input
from deepmac.errors import ConfigError, OptionError
from deepmac.label import is_want_of_memory
from deepmac.model.deepmac import DeepMAC
from deepmac.train.batch import Normalisers
from deepmac.train.checkpoints import (
    Checkpoint,
    latest_checkpoint,
    restore_checkpoint,
)
from deepmac.train.devices import Devices, computing_in
from deepmac.train.facts import check_same, facts_of
from deepmac.train.loop import Loop, Plan
from deepmac.train.model_dir import ModelDir, open_model_dir
from deepmac.train.monitor import Monitor
from deepmac.train.objective import check_trainable, normalisers, trains_detection
from deepmac.train.optimizer import keras_optimizer, learning_rate_of
from deepmac.train.progress import Progress
from deepmac.train.step import MicroBatch, TrainState, open_engine, split
from deepmac.train.validation import Validation


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How to train; the configuration says what.

    Attributes:
        model_dir: where checkpoints and summaries go, local or gs://; a run that is there goes on.
        num_steps: of the whole run; None: those of the configuration.
        seed: decides the fresh weights, the order of the images and all that is drawn.
        num_devices: that share a step; None: all accelerators, or the processor.
        distributed: see `Devices`.
        accumulation_steps: parts that a step's batch is computed in, one after the other.
        normaliser_groups: parts of a batch whose losses are normalised each by itself, as on the
            replicas of the reference; None: one for each device and accumulation step; 1: the
            whole batch.
        rematerialise: compute activations twice in place of keeping them (JAX).
        checkpoint_every, keep, evaluate_every: see `Plan`; None: as often as checkpoints.
        evaluate_every_nth: evaluate one image in so many.
        skip_non_finite: see `Plan`.
        num_workers: processes that make batches; 0: threads of this one.
        mask_slots: see `deepmac.data.input.training_input`.
        skip_bad_records: go on without records that cannot be used, and count them; else stop.
        record_summaries: write for TensorBoard.
        reference_quirks: do everything as the reference does, also what it does wrongly.
    """

    model_dir: str | Path
    num_steps: int | None = None
    seed: int = 0
    num_devices: int | None = None
    distributed: bool = False
    accumulation_steps: int = 1
    normaliser_groups: int | None = None
    rematerialise: bool = False
    checkpoint_every: int = 1000
    keep: int = 7
    evaluate_every: int | None = None
    evaluate_every_nth: int = 1
    skip_non_finite: bool = False
    num_workers: int = 0
    mask_slots: int | None = None
    skip_bad_records: bool = False
    record_summaries: bool = True
    reference_quirks: bool | None = None


def train(config: PipelineConfig, options: RunOptions) -> bool:
    """Trains, from the last checkpoint on if there is one; says whether the run is complete.

    Raises:
        DeepmacError: something is missing or does not fit: one line.
    """
    num_steps = options.num_steps or config.train_config.num_steps
    learning_rate_of(config.train_config.optimizer)  # or there is none: told at once
    check_trainable(config.model.center_net, reference_quirks=options.reference_quirks)
    progress = Progress(config.train_config.batch_size)
    looking = "joining the other hosts" if options.distributed else "finding devices"
    with progress.phase(looking):
        devices = Devices(options.num_devices, distributed=options.distributed)
    groups = _check(config, options, devices, num_steps)
    with open_model_dir(
        str(options.model_dir), is_chief=devices.host == 0
    ) as model_dir:
        return _train(config, options, model_dir, devices, groups, num_steps, progress)


def _train(
    config: PipelineConfig,
    options: RunOptions,
    model_dir: ModelDir,
    devices: Devices,
    groups: int,
    num_steps: int,
    progress: Progress,
) -> bool:
    checkpoint = latest_checkpoint(model_dir.path)
    if checkpoint is not None and checkpoint.step == 0:
        checkpoint = None  # nothing is lost, and the settings may be better ones now
    weights = None
    if checkpoint is None and config.train_config.fine_tune_checkpoint:
        with progress.phase("opening the weights to start from"):
            weights = _weights_to_fine_tune(config)
    with progress.phase("opening the records"):
        source = training_input(
            config,
            seed=options.seed,
            host=devices.host,
            num_hosts=devices.num_hosts,
            num_workers=options.num_workers,
            mask_slots=options.mask_slots,
            reference_quirks=options.reference_quirks,
            on_bad_record="skip" if options.skip_bad_records else "stop",
            index_folder=str(model_dir.path),
        )
        validation = _validation(config, options, source.supervised_ids)
    with source:
        facts = facts_of(
            config,
            seed=options.seed,
            backend=keras.config.backend(),
            accumulation_steps=options.accumulation_steps,
            normaliser_groups=groups,
            mask_slots=options.mask_slots,
            reference_quirks=bool(options.reference_quirks),
            input=source.fingerprint,
        )
        if checkpoint is not None:
            check_same(checkpoint.facts, facts, model_dir.shown(checkpoint.path))
        with progress.phase("making the network"), devices.scope:
            state = _fresh_state(config, options, checkpoint, weights)
            weights = None  # they take as much memory again
            if checkpoint is not None:
                restore_checkpoint(state, checkpoint)
        step = checkpoint.step if checkpoint else 0
        if source.num_batches is not None and source.num_batches < num_steps:
            num_steps = source.num_batches
            progress.say(
                f"train_input_reader.num_epochs is {config.train_input_reader.num_epochs}: there are "
                f"batches for {num_steps} steps"
            )
        if step >= num_steps:
            progress.say(f"{model_dir.name}: has all of its {num_steps} steps")
        progress.say(
            _opening(config, options, state, source, devices, groups, validation, step)
        )
        engine_options = dict(devices.engine_options)
        if options.rematerialise:
            engine_options["rematerialise"] = True
        engine = open_engine(state, **engine_options)
        monitor = None
        if options.record_summaries and devices.host == 0:
            monitor = Monitor(model_dir.path, step)
        # The checkpoint has those of the host that wrote it.
        before = checkpoint.counts if checkpoint and devices.host == 0 else {}
        counts = collections.Counter(before)
        loop = Loop(
            plan=_plan(config, options, num_steps, validation),
            engine=engine,
            state=state,
            model_dir=model_dir,
            facts=facts,
            step=step,
            batches=_batches(
                source, config, options, devices, groups, step, counts, progress
            ),
            evaluate=(lambda: validation(state.model)) if validation else None,
            progress=progress,
            monitor=monitor,
            counts=counts,
            num_hosts=devices.num_hosts,
            is_chief=devices.host == 0,
        )
        try:
            with devices.scope, _want_of_memory_told():
                is_complete = loop.run()
            of_host = f" on host {devices.host}" if devices.num_hosts > 1 else ""
            listed = ", ".join(f"{n} {name}" for name, n in counts.items())
            progress.say(f"so far{of_host}: {listed}")
            return is_complete
        finally:
            if monitor is not None:
                monitor.close()


@contextlib.contextmanager
def _want_of_memory_told() -> Iterator[None]:
    """Turns a backend's lack of memory into one line."""
    try:
        yield
    except Exception as e:
        if not is_want_of_memory(e):
            raise
        raise OptionError(
            "a step does not fit into memory; compute the batch in parts (--accumulation_steps), "
            "train fewer masks of an image (--mask_slots), compute in bfloat16 "
            "(--set train_config.use_bfloat16=true) or, on JAX, --rematerialise"
        ) from e


def _check(
    config: PipelineConfig, options: RunOptions, devices: Devices, num_steps: int
) -> int:
    """The number of normaliser groups, once the numbers fit each other."""
    batch_size = config.train_config.batch_size
    if keras.config.backend() not in ("tensorflow", "jax"):
        raise OptionError(
            f"KERAS_BACKEND is {keras.config.backend()}; training runs on tensorflow and on jax"
        )
    if options.rematerialise and keras.config.backend() != "jax":
        raise OptionError(
            f"--rematerialise: not on {keras.config.backend()}; set KERAS_BACKEND=jax, or cut "
            f"batches into smaller parts with --accumulation_steps"
        )
    if num_steps < 1:
        raise ConfigError(
            "train_config.num_steps is 0, for ever; give --num_train_steps"
        )
    num_parts = options.accumulation_steps * devices.num
    if options.accumulation_steps < 1 or batch_size % num_parts:
        raise OptionError(
            f"a batch of {batch_size} images cannot be cut into {options.accumulation_steps} "
            f"accumulation steps on {devices.num} device{'s' * (devices.num > 1)}; --set train_config.batch_size or "
            f"--accumulation_steps so that it can"
        )
    groups = options.normaliser_groups or num_parts
    if groups < 1 or batch_size % groups or groups % devices.num_hosts:
        raise OptionError(
            f"--normaliser_groups={groups}: must divide the batch of {batch_size} images and be a "
            f"multiple of the number of hosts ({devices.num_hosts})"
        )
    for name in ("checkpoint_every", "keep", "evaluate_every_nth"):
        if getattr(options, name) < 1:
            raise OptionError(
                f"{name} must be at least 1, got {getattr(options, name)}"
            )
    return groups


def _validation(
    config: PipelineConfig, options: RunOptions, supervised_ids: Collection[int] | None
) -> Validation | None:
    """What evaluates during training; None where the configuration names no records for it."""
    if options.evaluate_every == 0:
        return None
    sets = []
    for reader in config.eval_input_reader:
        source = reader.tf_record_input_reader
        paths = [p for p in source.input_path if PLACEHOLDER not in p] if source else []
        label_map = reader.label_map_path
        if not label_map or PLACEHOLDER in label_map:
            label_map = None
        for path in paths:
            records = open_records(path)
            if not records.manifest:
                records = with_categories(records, label_map)
            sets.append(records)
    if not sets and options.evaluate_every:
        raise OptionError(
            "--evaluate_every_n: eval_input_reader names no records; --set "
            "eval_input_reader[0].tf_record_input_reader.input_path=DIR"
        )
    if not sets:
        return None
    return Validation(
        sets,
        supervised_ids,
        detects=trains_detection(config.model.center_net),
        every_nth=options.evaluate_every_nth,
    )


def _fresh_state(
    config: PipelineConfig,
    options: RunOptions,
    checkpoint: Checkpoint | None,
    weights: Weights | None,
) -> TrainState:
    """A state for a checkpoint, or that before the first step: fresh weights, or those to start
    from."""
    train_config, build = config.train_config, {}
    kind = train_config.fine_tune_checkpoint_type
    if checkpoint is not None:
        build = _kernel_of(open_weights(checkpoint.path))
    elif weights is not None and kind == "full":
        build = _kernel_of(weights)
    with repeatable_weights(options.seed), computing_in(train_config.use_bfloat16):
        model = DeepMAC(
            config.model.center_net, reference_quirks=options.reference_quirks, **build
        )
    if weights is not None:
        (load_weights if kind == "full" else load_backbone)(model, weights)
    optimizer = train_config.optimizer
    assert optimizer is not None  # `learning_rate_of` has refused that
    return TrainState.fresh(
        model,
        keras_optimizer(optimizer),
        with_averages=optimizer.use_moving_average,
        clip_norm=train_config.gradient_clipping_by_norm,
    )


def _kernel_of(weights: Weights) -> dict[str, Any]:
    """The one dimension of a network that its configuration leaves open."""
    shapes = {name: stored.shape for name, stored in weights.variables.items()}
    kernel = infer_embedding_kernel(shapes)
    return {"embedding_head_kernel": kernel} if kernel else {}


def _weights_to_fine_tune(config: PipelineConfig) -> Weights:
    train_config = config.train_config
    path, kind = (
        train_config.fine_tune_checkpoint,
        train_config.fine_tune_checkpoint_type,
    )
    where = "train_config.fine_tune_checkpoint"
    if PLACEHOLDER in path:
        raise ConfigError(
            f"{where} is still {path}; name the weights to start from, or start from fresh ones "
            f"with --set '{where}=\"\"'"
        )
    if kind not in ("detection", "full", "fine_tune"):
        what = f"is '{kind}', which hourglasses do not have" if kind else "is not given"
        raise ConfigError(
            f"{where}_type {what}; set it to detection (the backbone) or full (everything)"
        )
    weights = open_weights(path)
    is_ours = isinstance(weights, NativeWeights)
    version = train_config.fine_tune_checkpoint_version
    if version is not CheckpointVersion.V2 and not is_ours:
        raise ConfigError(
            f"{where}_version is {version.name}; checkpoints of TensorFlow 2 alone can be read: set "
            f"it to V2 if this is one"
        )
    return weights


def _plan(
    config: PipelineConfig,
    options: RunOptions,
    num_steps: int,
    validation: Validation | None,
) -> Plan:
    every = options.evaluate_every
    if every is None:
        every = options.checkpoint_every
    optimizer = config.train_config.optimizer
    assert optimizer is not None
    return Plan(
        num_steps=num_steps,
        rate=learning_rate_of(optimizer),
        average_decay=Plan.decay_of(optimizer),
        checkpoint_every=options.checkpoint_every,
        keep=options.keep,
        evaluate_every=every if validation else 0,
        skip_non_finite=options.skip_non_finite,
    )


def _opening(
    config: PipelineConfig,
    options: RunOptions,
    state: TrainState,
    source: TrainingInput,
    devices: Devices,
    groups: int,
    validation: Validation | None,
    step: int,
) -> str:
    """What is about to happen, in a few lines."""
    batch_size = config.train_config.batch_size
    parts = options.accumulation_steps
    evaluated = "no evaluation, as asked"
    if validation is not None:
        evaluated = f"{validation.num_images} images for evaluation"
    elif options.evaluate_every is None:
        evaluated = "no evaluation: eval_input_reader names no records"
    lines = [
        f"{state.model.count_params() / 1e6:.1f} million parameters in "
        f"{'bfloat16' if config.train_config.use_bfloat16 else 'float32'} on {devices.num} "
        f"{keras.config.backend()} device{'s' * (devices.num > 1)}",
        f"{source.num_images} images, {source.len_epoch} steps an epoch; {evaluated}",
        f"batches of {batch_size} in {parts} part{'s' * (parts > 1)}, normalised in {groups} "
        f"group{'s' * (groups > 1)}",
        *source.notes,
        *(
            f"{field.path} is not acted on: {field.unused.reason}"
            for field in unused_fields(config)
            if field.path.startswith("train_")
        ),
        f"going on after step {step}" if step else "beginning",
    ]
    return "\n".join(lines)


def _batches(
    source: TrainingInput,
    config: PipelineConfig,
    options: RunOptions,
    devices: Devices,
    groups: int,
    first: int,
    counts: collections.Counter[str],
    progress: Progress,
) -> Iterator[tuple[list[MicroBatch], Sequence[Any]]]:
    """The batches from number `first` on, in micro-batches, with the ids of their images."""
    center_net = config.model.center_net
    for item in source.iterate(first):
        for line in item.skipped:
            progress.say(f"skipped: {line}")
        counts.update(item.counts)
        # This host's groups, of those of all hosts.
        of_host = normalisers(item.batch, center_net, groups // devices.num_hosts)
        factors = Normalisers(*(scale / devices.num_hosts for scale in of_host))
        whole = MicroBatch(item.batch, factors)
        yield split(whole, options.accumulation_steps), item.image_ids
