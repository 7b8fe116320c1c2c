"""Whether a directory can be written to as the jobs do it, and what the clouds would let us."""

import errno
import json
import os
import secrets
import shlex
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from deepmac.doctor.findings import Finding, State, gib, pip_install
from deepmac.doctor.probes import Outcome
from deepmac.errors import OptionError

LEAST_SPACE = 1 << 30
"""Bytes; with less a job is likely to stop."""

LOG_IN = "gcloud auth application-default login"


def check_output(out: str | None) -> Finding:
    """Whether jobs can write to a directory, or where it is to be made.

    Args:
        out: the directory; None looks at the working directory, which need not be the place.
    """
    name, state = "output", State.MISSING
    if out is None:
        name, state = "this folder", State.WARNING
    try:
        place = Path(out or ".").absolute()
    except FileNotFoundError:
        text = "the working directory has been removed"
        return Finding(name, state, text, "cd to a directory that exists")
    while not os.path.exists(place) and place != place.parent:
        place = place.parent
    if not os.path.isdir(place):
        text = f"{place} is a file, not a folder"
        return Finding(name, state, text, "another directory for --out")
    return _check_writing(name, state, place, "use another directory for --out")


def check_temporary(folder: str) -> Finding:
    """Whether there is room for what Beam and others write for themselves."""
    other = "export TMPDIR=DIR, a folder with room"
    return _check_writing("temporary files", State.MISSING, Path(folder), other)


def _check_writing(name: str, state: State, place: Path, other: str) -> Finding:
    """Writes and removes a small file in a folder, in the steps of a job's commits.

    Args:
        name, state: of the finding where that fails.
        place: the folder. Nothing is left behind in it.
        other: the remedy where the folder cannot be made to do.
    """
    remedy = f"chmod u+rwx {shlex.quote(str(place))}, or {other}"
    step = ""
    folder = place / f".deepmac-doctor-{secrets.token_hex(8)}"
    try:
        for step in _commit_steps(folder):  # noqa: B007  (the step that failed is told)
            pass
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = f"make room (df -h -i {shlex.quote(str(place))}), or {other}"
        text = f"{place}: cannot {step}: {e.strerror or e}"
        return Finding(name, state, text, remedy)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _check_space(name, place, other)


def _commit_steps(folder: Path) -> Iterator[str]:
    """Does what a commit does; names each step before it is taken."""
    import fcntl  # not everywhere

    yield "make a folder"
    folder.mkdir()
    yield "make a file"
    path = folder / "new"
    with path.open("xb") as file:
        yield "write to a file"
        file.write(bytes(1 << 16))
        file.flush()
        yield "flush a file to the disk"
        os.fsync(file.fileno())
    yield "rename a file"
    path.rename(folder / "done")
    yield "open a folder"
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield "lock a folder (a network file system without locks?)"
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield "flush a folder to the disk"
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    yield "remove a folder"
    shutil.rmtree(folder)


def _check_space(name: str, place: Path, other: str) -> Finding:
    usage = shutil.disk_usage(place)
    text = f"{place}: {gib(usage.free)} free of {gib(usage.total)}"
    if usage.free < LEAST_SPACE:
        return Finding(name, State.WARNING, text, f"make room, or {other}")
    return Finding(name, State.OK, text)


def check_credentials(
    environment: Mapping[str, str], home: Path, product: str
) -> Finding:
    """Whether Google's application default credentials are there; asks nobody.

    Args:
        environment: of the process.
        home: the user's folder.
        product: what the machine says it is (`/sys/class/dmi/id/product_name`).
    """
    name, variable = "credentials", "GOOGLE_APPLICATION_CREDENTIALS"
    if path := environment.get(variable):
        if problem := _unusable(Path(path)):
            text = f"{variable}={path}: {problem}"
            return Finding(name, State.WARNING, text, f"unset {variable}; {LOG_IN}")
        return Finding(name, State.OK, f"{variable}={path}")
    folder = environment.get("CLOUDSDK_CONFIG") or home / ".config/gcloud"
    path = Path(folder) / "application_default_credentials.json"
    if os.path.exists(path):
        if problem := _unusable(path):
            return Finding(name, State.WARNING, f"{path}: {problem}", LOG_IN)
        return Finding(name, State.OK, str(path))
    if "Google" in product:
        text = "those of the service account of this machine on Google Cloud"
        return Finding(name, State.OK, text)
    return Finding(name, State.NOTE, "none found: no Dataflow and no gs://", LOG_IN)


def _unusable(path: Path) -> str | None:
    try:
        value = json.loads(path.read_bytes())
    except OSError as e:
        return e.strerror
    except ValueError:
        return "no JSON"
    if not isinstance(value, dict) or "type" not in value:
        return "no credentials in it (it has no 'type')"
    return None


def check_url(url: str) -> str:
    """Returns the value of `--cloud`.

    Raises:
        OptionError: it names no bucket of Google Cloud Storage.
    """
    if not url.startswith("gs://") or not url.removeprefix("gs://").partition("/")[0]:
        raise OptionError(
            f"--cloud must be gs://BUCKET or gs://BUCKET/FOLDER, got {url!r}"
        )
    return url


def check_bucket(url: str, outcome: Outcome) -> Finding:
    """Whether a bucket could be listed and written to."""
    facts, problem = outcome.facts, outcome.problem
    if facts.get("removed"):
        return Finding(url, State.OK, "listed, written to, and the object removed")
    done = [word for word in ("listed", "written") if facts.get(word)]
    at = {0: "list it", 1: "write to it", 2: "remove what was written"}[len(done)]
    remedy = _bucket_remedy(problem or "", url)
    return Finding(url, State.MISSING, f"cannot {at}: {problem or 'no answer'}", remedy)


def _bucket_remedy(problem: str, url: str) -> str:
    bucket = url.removeprefix("gs://").partition("/")[0]
    if "No module named" in problem or "cannot import name 'storage'" in problem:
        return pip_install("deepmac[gcp]")
    if "Credentials" in problem or "Unauthorized" in problem or "401" in problem:
        return LOG_IN
    if "NotFound" in problem or "404" in problem:
        return f"gcloud storage buckets create gs://{bucket}"
    if "Forbidden" in problem or "403" in problem:
        return (
            f"gcloud storage buckets add-iam-policy-binding gs://{bucket} "
            f"--member=user:YOU --role=roles/storage.objectAdmin"
        )
    return f"gcloud storage ls gs://{bucket} (the network, or a proxy?)"
