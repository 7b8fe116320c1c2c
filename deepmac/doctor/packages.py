"""Python, the platform, and the installed packages against what deepmac's own metadata asks for.

Nothing is imported: a package that cannot be imported has a version all the same.
"""

import dataclasses
import importlib.metadata
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from deepmac.doctor.findings import Finding, State, pip_install
from deepmac.errors import one_of

OPTIONAL = {
    "gcp": "Google Cloud: gs:// paths, Dataflow",
    "jax": "the other backend of the network, for GPUs and TPUs",
    "garden": "peers in interoperability tests",
}
"""Extras for users, and what each is for."""

NEWEST_PYTHON = (3, 13)
"""The newest that TensorFlow has wheels for."""

_STAGING = ("setuptools>=77", "wheel", "build")  # what Beam builds source packages with

# What else holds the modules of a package.
_STAND_INS = {
    "tensorflow": ("tensorflow-cpu", "tf-nightly", "tensorflow-macos"),
    "opencv-python-headless": (
        "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python",
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Distribution:
    """An installed package: its version, and the requirements that its metadata states."""

    version: str
    requires: Sequence[str] = ()


Installed = Mapping[str, Distribution]
"""Packages by canonical name."""


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """What deepmac's metadata asks for: its requirements, and the Python versions it runs on."""

    requires: Sequence[str]
    python: str


def installed_packages() -> dict[str, Distribution]:
    """Of this interpreter; of two copies, the one that an import finds."""
    found: dict[str, Distribution] = {}
    for package in importlib.metadata.distributions():
        name = package.metadata["Name"]
        if name:  # a removal that was interrupted leaves empty folders
            key = canonicalize_name(name)
            found.setdefault(
                key, Distribution(package.version, tuple(package.requires or ()))
            )
    return found


def wanted_packages() -> Wanted | None:
    """What deepmac needs, from its own metadata or, in a bare checkout, its `pyproject.toml`."""
    try:
        own = importlib.metadata.distribution("deepmac")
        return Wanted(tuple(own.requires or ()), own.metadata["Requires-Python"] or "")
    except importlib.metadata.PackageNotFoundError:
        path = Path(__file__).parents[2] / "pyproject.toml"
        return _from_project(path.read_text("utf-8")) if path.is_file() else None


def _from_project(text: str) -> Wanted:
    project = tomllib.loads(text)["project"]
    extras = [
        f"{requirement} ; extra == '{extra}'"
        for extra, requirements in project["optional-dependencies"].items()
        for requirement in requirements
    ]
    return Wanted((*project["dependencies"], *extras), project["requires-python"])


def check_python(version: str, wanted: Wanted, system: str, machine: str) -> Finding:
    """Whether this Python, such as "3.11.7", is one that deepmac and TensorFlow run on."""
    place = f"{version} on {system} {machine}"
    newest = ".".join(map(str, NEWEST_PYTHON))
    remedy = f"make an environment with Python {newest}: python{newest} -m venv .venv"
    if not SpecifierSet(wanted.python).contains(version, prereleases=True):
        needs = f"deepmac needs {wanted.python}"
        return Finding("Python", State.MISSING, f"{place}; {needs}", remedy)
    if Version(version).release[:2] > NEWEST_PYTHON:
        why = f"TensorFlow has wheels up to Python {newest}"
        return Finding("Python", State.WARNING, f"{place}; {why}", remedy)
    if system == "Windows":
        why = "the jobs lock directories as Linux and macOS do"
        return Finding("Python", State.MISSING, f"{place}; {why}", "wsl --install")
    return Finding("Python", State.OK, place)


def check_core(wanted: Wanted, installed: Installed) -> list[Finding]:
    """Each package that deepmac always needs, and what these need of one another.

    TensorFlow may be missing where there is JAX.
    """
    core = [r for r in map(Requirement, wanted.requires) if _applies(r)]
    findings = [_check_one(r, installed) for r in core]
    return findings + _clashes(core, installed) + _two_opencvs(core, installed)


def check_extras(wanted: Wanted, installed: Installed) -> list[Finding]:
    """The extras that users have a choice about; none is needed."""
    requirements = list(map(Requirement, wanted.requires))
    findings = []
    for extra, purpose in OPTIONAL.items():
        of_extra = [r for r in requirements if _applies(r, extra) and not _applies(r)]
        lacking = {*_lacking(of_extra, installed)}
        if not of_extra:
            continue
        if not lacking:
            text = ", ".join(f"{r.name} {_version(r, installed)}" for r in of_extra)
            findings.append(Finding(f"extra {extra}", State.OK, text))
            continue
        what = (
            one_of(sorted(lacking)) if len(lacking) <= 3 else f"{len(lacking)} packages"
        )
        text = f"{purpose}; not installed: {what}"
        remedy = pip_install(f"deepmac[{extra}]")
        findings.append(Finding(f"extra {extra}", State.NOTE, text, remedy))
    return findings


def check_staging(installed: Installed, python: str) -> Finding:
    """Whether Beam can build our package for workers elsewhere (`--setup_file`).

    Args:
        installed: the packages.
        python: version of this interpreter; the workers' must be of the same minor version.
    """
    lacking = [*_lacking(list(map(Requirement, _STAGING)), installed)]
    minor = ".".join(python.split(".")[:2])
    text = f"workers need Python {minor}, as here"
    if not lacking:
        return Finding("staging", State.OK, text)
    text += f"; --setup_file builds our package with {', '.join(_STAGING)}"
    return Finding(
        "staging", State.NOTE, text, pip_install(*_STAGING, before="--upgrade")
    )


def _applies(requirement: Requirement, extra: str = "") -> bool:
    marker = requirement.marker
    return marker is None or marker.evaluate({"extra": extra})


def _check_one(requirement: Requirement, installed: Installed) -> Finding:
    name, needs = requirement.name, _spoken(requirement.specifier)
    command = pip_install(_plain(requirement))
    found = installed.get(canonicalize_name(name))
    if found is not None:
        if _fits(found.version, requirement.specifier):
            return Finding(name, State.OK, f"{found.version} ({needs})")
        text = f"{found.version}, deepmac needs {needs}"
        return Finding(name, State.MISSING, text, command)
    stand_in = next((n for n in _STAND_INS.get(name, ()) if n in installed), None)
    if stand_in is not None:
        version = installed[stand_in].version
        if _fits(version, requirement.specifier):
            return Finding(name, State.OK, f"{version}, as {stand_in} ({needs})")
        text = f"{version}, as {stand_in}; deepmac needs {needs}"
        command = pip_install(stand_in + _bounds(requirement.specifier))
        return Finding(name, State.MISSING, text, command)
    if name == "tensorflow" and "jax" in installed:
        text = (
            "not installed: the network runs on JAX; reading the reference's checkpoints, "
            "SavedModels and exporting need it"
        )
        return Finding(name, State.NOTE, text, command)
    return Finding(name, State.MISSING, f"not installed ({needs})", command)


def _clashes(core: Iterable[Requirement], installed: Installed) -> list[Finding]:
    """Packages whose version somebody else among ours cannot work with."""
    needs: dict[str, dict[str, SpecifierSet]] = {}
    for by, requirement in _walk(core, installed):
        name = canonicalize_name(requirement.name)
        specifiers = needs.setdefault(name, {})
        known = specifiers.get(by, SpecifierSet())
        specifiers[by] = known & requirement.specifier
    findings = []
    for name, specifiers in sorted(needs.items()):
        version = installed[name].version
        bad = {
            by: s for by, s in specifiers.items() if by and not _fits(version, s)
        }  # what deepmac itself asks for has been told
        if bad:
            whole = SpecifierSet()
            for specifier in specifiers.values():
                whole &= specifier
            who = ", ".join(f"{by} needs {_spoken(s)}" for by, s in bad.items())
            command = pip_install(name + _bounds(whole))
            findings.append(
                Finding(name, State.MISSING, f"{version}, but {who}", command)
            )
    return findings


def _walk(
    requirements: Iterable[Requirement], installed: Installed
) -> Iterator[tuple[str, Requirement]]:
    """Who needs what, down to the last: (the needing package and its version, requirement).

    Only of packages that are there. "" is deepmac.
    """
    queue = [("", r) for r in requirements]
    seen = {""}
    while queue:
        by, requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        if name not in installed:
            continue
        yield by, requirement
        for extra in ("", *sorted(requirement.extras)):
            if (key := f"{name}[{extra}]") in seen:
                continue
            seen.add(key)
            package = installed[name]
            label = f"{requirement.name} {package.version}"
            queue += [
                (label, r)
                for r in map(Requirement, package.requires)
                if _applies(r, extra)
            ]


def _lacking(
    requirements: Sequence[Requirement], installed: Installed
) -> Iterator[str]:
    """Names that are not there, or not in a version that fits, extras of theirs included."""
    for requirement in requirements:
        name = canonicalize_name(requirement.name)
        found = installed.get(name)
        if found is None or not _fits(found.version, requirement.specifier):
            yield requirement.name
            continue
        for extra in requirement.extras:
            inner = map(Requirement, found.requires)
            yield from _lacking(
                [r for r in inner if _applies(r, extra) and not _applies(r)], installed
            )


def _two_opencvs(core: Iterable[Requirement], installed: Installed) -> list[Finding]:
    """Two packages with the same module overwrite one another's files."""
    name = "opencv-python-headless"
    found = [n for n in (name, *_STAND_INS[name]) if n in installed]
    wanted = [_plain(r) for r in core if r.name == name]
    if len(found) < 2 or not wanted:
        return []
    return [
        Finding(
            "OpenCV",
            State.WARNING,
            f"{' and '.join(found)} write the same files",
            f"pip uninstall --yes {' '.join(found)} && {pip_install(*wanted)}",
        )
    ]


def _version(requirement: Requirement, installed: Installed) -> str:
    return installed[canonicalize_name(requirement.name)].version


def _fits(version: str, specifier: SpecifierSet) -> bool:
    try:
        return specifier.contains(version, prereleases=True)
    except InvalidVersion:
        return False


def _plain(requirement: Requirement) -> str:
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return requirement.name + extras + _bounds(requirement.specifier)


def _bounds(specifier: SpecifierSet) -> str:
    return _spoken(specifier).replace(" ", "") if specifier else ""


def _spoken(specifier: SpecifierSet) -> str:
    """`>=2.20, <2.22`: lower bounds first, each only once."""
    bounds = sorted({str(s) for s in specifier}, key=lambda s: (s[0] != ">", s))
    return ", ".join(bounds) or "any version"
