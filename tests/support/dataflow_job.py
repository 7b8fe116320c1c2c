"""The description of a Dataflow job, as it would be handed over."""

import base64
import bz2
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from storage_emulator import Storage

IMAGE = "europe-docker.pkg.dev/my-project/images/deepmac:1"


@dataclasses.dataclass(frozen=True)
class DataflowJob:
    """A described job.

    Attributes:
        text: the description in JSON.
        environment: of it.
        graph: the pipeline that it points to, which lies beside what is staged.
        graph_bytes: its size.
        packages: names of what is staged -> object.
    """

    text: str
    environment: dict[str, Any]
    graph: beam_runner_api_pb2.Pipeline
    graph_bytes: int
    packages: dict[str, str]

    @property
    def pool(self) -> dict[str, Any]:
        (pool,) = self.environment["workerPools"]
        return pool

    @property
    def options(self) -> dict[str, Any]:
        """Beam's, as workers are told them."""
        return self.environment["sdkPipelineOptions"]["options"]

    def steps(self) -> dict[str, beam_runner_api_pb2.PTransform]:
        """Name -> the steps that workers run, those that are made of others left out."""
        every = self.graph.components.transforms.values()
        return {t.unique_name: t for t in every if not t.subtransforms}

    def hints(self) -> dict[str, dict[str, str]]:
        """Name -> resource hints of the steps that run in Python."""
        environments = self.graph.components.environments
        return {
            name: {
                urn.split(":")[2]: value.decode()
                for urn, value in environments[
                    step.environment_id
                ].resource_hints.items()
            }
            for name, step in self.steps().items()
            if step.environment_id
        }

    def pickles(self) -> dict[str, bytes]:
        """Name -> the function that workers unpickle, of the steps that have one."""
        par_do, combine = common_urns.primitives.PAR_DO, common_urns.composites
        found = {}
        for step in self.graph.components.transforms.values():
            if step.spec.urn == par_do.urn:
                payload = beam_runner_api_pb2.ParDoPayload.FromString(step.spec.payload)
                found[step.unique_name] = _unpacked(payload.do_fn.payload)
            elif step.spec.urn == combine.COMBINE_PER_KEY.urn:
                payload = beam_runner_api_pb2.CombinePayload.FromString(
                    step.spec.payload
                )
                found[step.unique_name] = _unpacked(payload.combine_fn.payload)
        return found


def flags(place: Path) -> list[str]:
    """What sends a job to Dataflow, but for its description, which goes to a file."""
    return [
        "--runner=DataflowRunner",
        "--project=my-project",
        "--region=europe-west4",
        "--temp_location=gs://bucket/tmp",
        f"--sdk_container_image={IMAGE}",
        "--sdk_location=container",
        "--no_auth",
        f"--template_location={place}",
    ]


def described(
    storage: Storage, place: Path, describe: Callable[[list[str]], Any]
) -> DataflowJob:
    """The job that a function describes when it is given Beam's flags."""
    describe(flags(place))
    text = place.read_text()
    environment = json.loads(text)["environment"]
    (graph_name,) = (n for n in storage.names() if n.endswith("/pipeline.pb"))
    graph = storage.get(graph_name)
    (pool,) = environment["workerPools"]
    packages = {
        package["name"]: package["location"].partition("/bucket/")[2]
        for package in pool.get("packages", ())
    }
    return DataflowJob(
        text,
        environment,
        beam_runner_api_pb2.Pipeline.FromString(graph),
        len(graph),
        packages,
    )


def _unpacked(pickled: bytes) -> bytes:
    return bz2.decompress(base64.b64decode(pickled))
