"""The whole examination, from top to bottom."""

import glob
import importlib.util
import os
import platform
import shlex
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from deepmac.doctor import diagnosis, machine, places
from deepmac.doctor.findings import Finding, Section, State
from deepmac.doctor.probes import Outcome, run_probes, trial_command

_NVIDIA_SMI = (
    "nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader",
)  # fmt: skip


def examine(
    environment: Mapping[str, str],
    *,
    out: str | None = None,
    cloud: str | None = None,
    timeout: float = 60.0,
) -> list[Section]:
    """Finds out what works and what does not; changes nothing.

    Args:
        environment: of the process.
        out: directory that a job is to write to; None tries the working directory, where failing
            matters less.
        cloud: gs:// address to list and to write to; None leaves the network alone.
        timeout: seconds after which something tried is given up.
    """
    modules = [m for m in diagnosis.BACKENDS if importlib.util.find_spec(m)]
    settings = _text(_keras_folder(environment) / "keras.json")
    chosen, why = diagnosis.expected_backend(environment, settings, modules)
    outcomes = run_probes(_commands(modules, chosen, cloud), environment, timeout)
    sections = [
        Section("Python and packages", _packages()),
        Section(
            "Network and devices",
            _network(environment, modules, chosen, why, outcomes),
        ),
        Section("Formats", diagnosis.check_codecs(outcomes["codecs"])),
        Section("Beam", _beam(outcomes["beam"])),
        Section("Places to write", _writing(out)),
        Section("Google Cloud", _cloud(environment, cloud, outcomes)),
    ]
    pip = _pip()
    return [section.with_pip(*pip) for section in sections]


def _pip() -> tuple[str, str]:
    """What installs into the environment of this interpreter: a program and an option of it."""
    python, found = shlex.quote(sys.executable), shutil.which("pip")
    if importlib.util.find_spec("pip") is None and shutil.which("uv"):
        return "uv pip", f" --python {python}"
    if found and Path(found).parent == Path(sys.executable).parent:
        return "pip", ""
    return f"{python} -m pip", ""


def _commands(modules: list[str], chosen: str | None, cloud: str | None) -> dict:
    """What is tried, by name. The chosen backend's trial goes on with Keras."""
    commands = {
        module: trial_command(module, *(["keras"] if module == chosen else []))
        for module in modules
    }
    commands |= {"beam": trial_command("beam"), "codecs": trial_command("codecs")}
    if shutil.which(_NVIDIA_SMI[0]):
        commands["gpus"] = list(_NVIDIA_SMI)
    if cloud is not None:
        commands["cloud"] = trial_command("cloud", cloud)
    return commands


def _packages() -> list[Finding]:
    if importlib.util.find_spec("packaging") is None:
        text = "not installed, so versions cannot be compared"
        return [Finding("packaging", State.MISSING, text, "pip install packaging")]
    from deepmac.doctor import packages

    wanted = packages.wanted_packages()
    if wanted is None:
        text = "its metadata are not there, so versions cannot be compared"
        return [Finding("deepmac", State.WARNING, text, "pip install deepmac")]
    installed = packages.installed_packages()
    python = packages.check_python(
        platform.python_version(), wanted, platform.system(), platform.machine()
    )
    return [
        python,
        *packages.check_core(wanted, installed),
        *packages.check_extras(wanted, installed),
        packages.check_staging(installed, platform.python_version()),
    ]


def _network(
    environment: Mapping[str, str],
    modules: list[str],
    chosen: str | None,
    why: str,
    outcomes: Mapping[str, Outcome],
) -> list[Finding]:
    host = machine.this_machine()
    frameworks = {module: outcomes[module] for module in modules}
    of_keras = outcomes.get(chosen or "", Outcome())
    listing = outcomes.get("gpus", Outcome(problem="nvidia-smi is not on PATH"))
    has_gpu = bool(glob.glob("/dev/nvidia[0-9]*"))
    has_tpu = bool(glob.glob("/dev/accel[0-9]*"))
    return [
        diagnosis.check_backend(chosen, why, modules, of_keras),
        *(
            diagnosis.check_framework(module, outcome, module == chosen)
            for module, outcome in frameworks.items()
        ),
        *diagnosis.check_gpus(listing, frameworks, has_gpu),
        *diagnosis.check_tpus(environment, has_tpu, frameworks.get("jax")),
        machine.check_processor(host),
        machine.check_memory(host),
        machine.check_matrix_units(host.cpuinfo, environment),
        *diagnosis.check_tensor_cores(frameworks.values()),
    ]


def _beam(outcome: Outcome) -> list[Finding]:
    programs = ("java", "go", "docker")
    return [
        diagnosis.check_beam(outcome),
        *diagnosis.check_programs({p: shutil.which(p) for p in programs}),
    ]


def _writing(out: str | None) -> list[Finding]:
    findings = [places.check_output(out)]
    try:
        findings.append(places.check_temporary(tempfile.gettempdir()))
    except OSError as e:
        remedy = "export TMPDIR=DIR, a folder that can be written to"
        findings.append(
            Finding("temporary files", State.MISSING, e.strerror or str(e), remedy)
        )
    return findings


def _cloud(
    environment: Mapping[str, str], cloud: str | None, outcomes: Mapping[str, Outcome]
) -> list[Finding]:
    product = _text(Path("/sys/class/dmi/id/product_name"))
    home = Path(os.path.expanduser("~"))  # `Path.home` fails for users without one
    findings = [places.check_credentials(environment, home, product)]
    if cloud is not None:
        findings.append(places.check_bucket(cloud, outcomes["cloud"]))
    return findings


def _keras_folder(environment: Mapping[str, str]) -> Path:
    """Where Keras keeps its settings."""
    if folder := environment.get("KERAS_HOME"):
        return Path(folder)
    home = os.path.expanduser("~")
    # Keras does the same where there is no folder of the user.
    return Path(home if os.access(home, os.W_OK) else "/tmp") / ".keras"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
