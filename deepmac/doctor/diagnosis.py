"""What trials have shown: backends, accelerators, runners and codecs."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from deepmac.doctor.findings import Finding, State, pip_install
from deepmac.doctor.probes import Outcome

BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX"}
"""What the network runs on, and how it is written."""

# What an error says -> what mends it; {package} is what could not be used.
_REMEDIES = (
    (
        r"libGL\.so|libgthread|libglib",
        "apt-get install libgl1 libglib2.0-0 (or pip install --force-reinstall opencv-python-headless)",
    ),
    (r"GLIBC_|GLIBCXX_", "a newer system: the wheels are built for glibc 2.28 and up"),
    (r"SIGILL", "a processor with AVX, or packages built for this one"),
    (
        r"[Pp]rotobuf|Descriptors cannot be created|google\.protobuf",
        "pip install --upgrade protobuf {package}",
    ),
    (
        r"numpy\.dtype size changed|multiarray|_ARRAY_API|NumPy 1\.x",
        "pip install --upgrade --force-reinstall numpy {package}",
    ),
    (r"[Nn]o space left", "make room, or set TMPDIR to a folder with room"),
    (r"no answer within", "deepmac doctor --timeout 300"),
)


def remedy_for(problem: str, package: str) -> str:
    """What mends an error of a package."""
    missing = re.search(r"No module named '([\w]+)", problem)
    if missing and package:
        return pip_install(package)
    for pattern, remedy in _REMEDIES:
        if re.search(pattern, problem):
            return remedy.format(package=package).strip()
    return pip_install(package, before="--force-reinstall") if package else ""


def expected_backend(
    environment: Mapping[str, str], keras_settings: str, modules: Iterable[str]
) -> tuple[str | None, str]:
    """Which backend Keras is going to run on, and why; see `deepmac.backend.select_backend`.

    Args:
        environment: of the process.
        keras_settings: text of Keras's own settings file; empty if there is none.
        modules: of TensorFlow and JAX, those that are installed.
    """
    if chosen := environment.get("KERAS_BACKEND"):
        return chosen, "KERAS_BACKEND says so"
    available = [m for m in BACKENDS if m in modules]
    if not available:
        return None, "neither TensorFlow nor JAX is installed"
    if "tensorflow" not in available:
        return "jax", "TensorFlow is not installed"
    try:
        configured = json.loads(keras_settings or "{}").get("backend")
    except (ValueError, AttributeError):
        configured = None
    if configured and configured != "tensorflow":
        return str(configured), "keras.json in Keras's folder says so"
    return "tensorflow", "Keras's default; KERAS_BACKEND=jax chooses the other"


def check_backend(
    chosen: str | None, why: str, modules: Iterable[str], outcome: Outcome
) -> Finding:
    """Whether the network can run on the backend that Keras is going to use.

    Args:
        chosen, why: from `expected_backend`.
        modules: of TensorFlow and JAX, those that are installed.
        outcome: of the trial that ends with Keras.
    """
    name = "Keras"
    if chosen is None:
        return Finding(name, State.MISSING, why, pip_install("tensorflow"))
    if chosen not in BACKENDS:
        text = f"backend {chosen}: {why}; deepmac runs on tensorflow and jax"
        return Finding(name, State.MISSING, text, "export KERAS_BACKEND=tensorflow")
    if chosen not in modules:
        text = f"backend {chosen}: {why}, but it is not installed"
        return Finding(name, State.MISSING, text, pip_install(chosen))
    facts = outcome.facts
    if outcome.problem:
        # The backend has a line of its own; this one is about Keras where that has worked.
        package = "keras" if "product" in facts else chosen
        text = f"backend {chosen}: {outcome.problem}"
        return Finding(
            name, State.MISSING, text, remedy_for(_all_text(outcome), package)
        )
    text = f"{facts.get('keras')} on {BACKENDS[chosen]}: {why}"
    if facts.get("backend") != chosen:
        text = f"runs on {facts.get('backend')}, not on {chosen}, though {why}"
        return Finding(name, State.WARNING, text, f"export KERAS_BACKEND={chosen}")
    return Finding(name, State.OK, text)


def check_framework(module: str, outcome: Outcome, is_chosen: bool) -> Finding:
    """Whether TensorFlow or JAX can be imported and computes."""
    name = BACKENDS[module]
    facts = outcome.facts
    if "product" in facts:
        devices = facts.get("devices", ())
        return Finding(
            name, State.OK, f"{facts['version']} sees {_spoken_devices(devices)}"
        )
    state = State.MISSING if is_chosen else State.WARNING
    problem = outcome.problem or "gave no answer"
    return Finding(name, state, problem, remedy_for(_all_text(outcome), module))


def _spoken_devices(devices: Sequence[Mapping[str, Any]]) -> str:
    """`2 x NVIDIA H100`; the processor only where there is nothing else."""
    accelerators = [d["name"] for d in devices if d["kind"] not in ("cpu", "xla_cpu")]
    if not accelerators:
        return "the processor" if devices else "no device"
    counted = {name: accelerators.count(name) for name in dict.fromkeys(accelerators)}
    return ", ".join(f"{n} x {name}" for name, n in counted.items())


def check_gpus(
    listing: Outcome, frameworks: Mapping[str, Outcome], has_node: bool
) -> list[Finding]:
    """NVIDIA's GPUs of the machine, and whether the frameworks can use them.

    Args:
        listing: of `nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader`.
        frameworks: outcomes of the trials of TensorFlow and JAX, of those that are installed.
        has_node: the system has a device file of a GPU, whatever `nvidia-smi` says.
    """
    lines = str(listing.facts.get("output", "")).splitlines()
    rows = [[w.strip() for w in line.split(",")] for line in lines]
    gpus = [row for row in rows if len(row) == 3]
    if listing.problem or not gpus:
        if not has_node:
            return []
        text = f"there is one, but its driver does not answer: {listing.problem or 'no GPU listed'}"
        remedy = (
            "nvidia-smi (mend what it says; in a container, start it with --gpus all)"
        )
        return [Finding("GPU", State.WARNING, text, remedy)]
    driver = gpus[0][1]
    text = "; ".join(f"{name}, {memory}" for name, _, memory in gpus)
    findings = [Finding("GPU", State.OK, f"{text} (driver {driver})")]
    for module, outcome in frameworks.items():
        facts = outcome.facts
        kinds = {d["kind"] for d in facts.get("devices", ())}
        if "product" not in facts or kinds & {"gpu", "cuda"}:
            continue
        remedy = _gpu_remedy(module, facts, driver)
        text = f"{BACKENDS[module]} does not see it"
        findings.append(Finding("GPU", State.WARNING, text, remedy))
    return findings


def _gpu_remedy(module: str, facts: Mapping[str, Any], driver: str) -> str:
    if module == "jax":
        major = driver.partition(".")[0]
        # CUDA 13 needs a driver of release 580 or later.
        is_new = major.isdecimal() and int(major) >= 580
        return pip_install("jax[cuda13]" if is_new else "jax[cuda12]")
    version = facts.get("version", "")
    return pip_install(f"tensorflow[and-cuda]=={version}")


def check_tpus(
    environment: Mapping[str, str], has_node: bool, jax: Outcome | None
) -> list[Finding]:
    """Google's TPUs. JAX alone runs the network there."""
    if not (has_node or environment.get("TPU_ACCELERATOR_TYPE")):
        return []
    devices = jax.facts.get("devices", ()) if jax else ()
    if any(d["kind"] == "tpu" for d in devices):
        return [Finding("TPU", State.OK, _spoken_devices(devices))]
    text = "there is one, but JAX does not see it"
    return [Finding("TPU", State.WARNING, text, pip_install("jax[tpu]"))]


def check_tensor_cores(frameworks: Iterable[Outcome]) -> list[Finding]:
    """The matrix units of the accelerators that a framework sees."""
    found: dict[str, str] = {}
    for outcome in frameworks:
        for device in outcome.facts.get("devices", ()):
            if device["kind"] == "tpu":
                found[device["name"]] = "matrix units of bfloat16"
            elif capability := device.get("capability"):
                found[device["name"]] = _of_capability(*capability[:2])
    return [Finding("matrix units", State.OK, f"{n}: {t}") for n, t in found.items()]


def _of_capability(major: int, minor: int = 0) -> str:
    if major >= 8:
        return "tensor cores, bfloat16 among their types"
    return "tensor cores, without bfloat16" if major == 7 else "no tensor cores"


def check_beam(outcome: Outcome) -> Finding:
    """Whether Beam's runner for one machine runs a pipeline."""
    facts = outcome.facts
    if facts.get("ran"):
        return Finding("FnApiRunner", State.OK, f"Beam {facts['version']} ran a job")
    problem = outcome.problem or "gave no answer"
    remedy = remedy_for(_all_text(outcome), "apache-beam")
    return Finding("FnApiRunner", State.MISSING, problem, remedy)


def check_programs(places: Mapping[str, str | None]) -> list[Finding]:
    """What other runners need on this machine; nothing that deepmac needs.

    Args:
        places: of the programs `java`, `go` and `docker`; None where there is none.
    """
    uses = {
        "java": ("FlinkRunner, SparkRunner", "apt-get install openjdk-17-jre-headless"),
        "go": ("PrismRunner, where it is to be built", "apt-get install golang"),
        "docker": ("containers of workers", "apt-get install docker.io"),
    }
    findings = []
    for program, (use, remedy) in uses.items():
        place = places.get(program)
        text = f"{place} ({use})" if place else f"not on PATH: no {use}"
        remedy = "" if place else remedy
        findings.append(
            Finding(program, State.OK if place else State.NOTE, text, remedy)
        )
    return findings


def check_codecs(outcome: Outcome) -> list[Finding]:
    """Each format that was tried; those that work of one library share a line."""
    last: dict[str, Mapping[str, Any]] = {}
    for report in outcome.reports:
        last[report["name"]] = report
    good: dict[str, list[str]] = {}
    bad = []
    for name, report in last.items():
        if "text" in report:
            good.setdefault(report["text"], []).append(name)
            continue
        problem = report.get("problem") or outcome.problem or "gave no answer"
        state = State.MISSING if report["needed"] else State.NOTE
        remedy = remedy_for(problem, report["package"])
        bad.append(Finding(name, state, problem, remedy))
    if outcome.problem and not any("text" not in r for r in last.values()):
        remedy = remedy_for(_all_text(outcome), "numpy")
        bad.append(Finding("formats", State.MISSING, outcome.problem, remedy))
    findings = [Finding(t, State.OK, _grouped(names)) for t, names in good.items()]
    return findings + bad


def _grouped(names: Sequence[str]) -> str:
    """`JPEG (baseline, grey), PNG (8 bits), TIFF`."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        kind, _, variant = name.partition(", ")
        kinds.setdefault(kind, []).extend([variant] if variant else [])
    return ", ".join(f"{k} ({', '.join(v)})" if v else k for k, v in kinds.items())


def _all_text(outcome: Outcome) -> str:
    """The problem first; the log often has the true cause."""
    return f"{outcome.problem}\n{outcome.log[-4000:]}"
