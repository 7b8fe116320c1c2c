"""What a job needs on Google Cloud Dataflow besides its graph: see docs/dataflow.md."""

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any

import click
from apache_beam.options.pipeline_options import (
    DebugOptions,
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    StandardOptions,
)
from apache_beam.transforms.resources import parse_resource_hints

from deepmac.errors import OptionError, one_of

_NAMES = ("dataflow", "dataflowrunner")
_THREADS = 2  # one reads and codes while the other one's images are on the accelerator


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machines:
    """What the machines that do the units of a job must be like.

    Attributes:
        hold_model: one process on each, with few threads, so that a model is in memory once.
        hints: Beam's resource hints (`accelerator`, `min_ram`) for the step that does the units,
            and for no other.
    """

    hold_model: bool = False
    hints: Mapping[str, str] = dataclasses.field(default_factory=dict)


ANY_MACHINES = Machines()


def machines(
    options: PipelineOptions,
    *,
    hold_model: bool,
    accelerator: str | None,
    min_ram: str | None,
) -> Machines:
    """The machines that a job asks for.

    Args:
        options: of Beam.
        hold_model: see `Machines`.
        accelerator: its type, such as `nvidia-tesla-t4`, of which there is then one with its
            driver; or a whole hint, `type:TYPE;count:NUMBER` and more.
        min_ram: such as `16GB`.

    Raises:
        OptionError: a value is malformed, or the runner does not choose machines.
    """
    if accelerator and ":" not in accelerator:
        accelerator = f"type:{accelerator};count:1;install-nvidia-driver"
    given = {"accelerator": accelerator, "min_ram": min_ram}
    hints = {name: value for name, value in given.items() if value is not None}
    for name, value in hints.items():
        flag = "accelerator" if name == "accelerator" else "worker_min_ram"
        if not is_dataflow(options):
            raise OptionError(
                f"--{flag}: {_runner(options)} chooses no machines, DataflowRunner alone does; "
                f"leave it out"
            )
        try:
            parse_resource_hints({name: value})
        except ValueError:
            wanted = "nvidia-tesla-t4" if name == "accelerator" else "16GB"
            raise OptionError(f"--{flag} is such as {wanted}, got '{value}'") from None
    return Machines(hold_model=hold_model, hints=hints)


def is_dataflow(options: PipelineOptions) -> bool:
    """Whether the job goes to Dataflow."""
    return _runner(options).rpartition(".")[2].lower() in _NAMES


def check(options: PipelineOptions) -> None:
    """Looks whether Dataflow has what it must be told, before any work.

    Raises:
        OptionError: names all that is missing, or a flag that this runner cannot honour.
    """
    if not is_dataflow(options):
        if options.view_as(StandardOptions).no_wait_until_finish:
            raise OptionError(
                f"--no_wait_until_finish is for DataflowRunner: on {_runner(options)} the job ends "
                f"with its launcher"
            )
        return
    cloud = options.view_as(GoogleCloudOptions)
    flags = ("project", "region", "temp_location")
    if missing := [f"--{flag}" for flag in flags if not getattr(cloud, flag)]:
        raise OptionError(f"--runner={_runner(options)} needs {one_of(missing)} too")
    for flag in ("temp_location", "staging_location"):
        value = getattr(cloud, flag)
        if value and not value.startswith("gs://"):
            raise OptionError(f"--{flag} must be a folder on gs://, got {value}")


def check_paths(options: PipelineOptions, paths: Mapping[str, str | None]) -> None:
    """Looks whether Dataflow's workers can see what a job reads and writes.

    Args:
        options: of Beam.
        paths: by the names of the job's options; those that are None do not count.

    Raises:
        OptionError: one is a path of this machine.
    """
    if not is_dataflow(options):
        return
    local = [f"--{n}={p}" for n, p in paths.items() if p is not None and "://" not in p]
    if local:
        raise OptionError(
            f"the workers of {_runner(options)} do not see the files of this machine: "
            f"{one_of(local)}; name places on gs://"
        )


def fill_in(options: PipelineOptions, needs: Machines) -> None:
    """Sets what suits these jobs on Dataflow, where the user has not set it."""
    if not is_dataflow(options):
        return
    setup = options.view_as(SetupOptions)
    if setup.save_main_session is None:
        # Nothing of ours that travels is defined in `__main__`.
        setup.save_main_session = False
    if not needs.hold_model:
        return
    debug = options.view_as(DebugOptions)
    experiment = "use_multiple_sdk_containers"  # a process for each core, by default
    if not any(debug.lookup_experiment(p + experiment) for p in ("", "no_")):
        debug.add_experiment(f"no_{experiment}")
    if debug.number_of_worker_harness_threads is None:
        debug.number_of_worker_harness_threads = _THREADS


def is_left_alone(options: PipelineOptions) -> bool:
    """Whether the launcher shall not wait for the end of the job."""
    return bool(template(options)) or (
        is_dataflow(options)
        and bool(options.view_as(StandardOptions).no_wait_until_finish)
    )


def announce(options: PipelineOptions, result: Any) -> None:
    """Says where a job that was handed to Dataflow can be watched and stopped."""
    if not is_dataflow(options) or template(options):
        return
    cloud = options.view_as(GoogleCloudOptions)
    flags = f"--project={cloud.project} --region={cloud.region}"
    print(
        f"Dataflow job {result.job_id()}: it goes on when this launcher is stopped; "
        f"`gcloud dataflow jobs cancel {result.job_id()} {flags}` stops it",
        file=sys.stderr,
    )


def leave(options: PipelineOptions) -> None:
    """Ends the command with status 0 if the launcher is not to wait for the job."""
    if not is_left_alone(options):
        return
    if path := template(options):
        print(f"{path}: the description of the job; nothing was run")
    else:
        print("when the job has ended, the same command gathers what it has done")
    raise click.exceptions.Exit(0)


def template(options: PipelineOptions) -> str | None:
    """Where the description of the job is to go instead of to Dataflow."""
    return options.view_as(GoogleCloudOptions).template_location


def _runner(options: PipelineOptions) -> str:
    return options.view_as(StandardOptions).runner or ""
