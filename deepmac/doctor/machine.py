"""Processor, memory and matrix units, from what the system tells in text files."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

from deepmac.doctor.findings import Finding, State, gib
from deepmac.matrix_units import (
    cpu_field,
    cpu_flags,
    matrix_units,
    read_cpuinfo,
    switched_off_by,
)
from deepmac.processors import num_processors

LEAST_MEMORY = 4 << 30
"""Bytes. One of the large networks takes some 3 GiB for images of 1024 x 1024."""

_UNLIMITED = 1 << 60  # what version 1 of control groups says in place of "no limit"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the processes may use.

    Attributes:
        cpuinfo: text of `/proc/cpuinfo`; empty where the system has none.
        num_cores: that the process may run on.
        cpu_limit: of the control group, in cores; None without one.
        memory: bytes of the machine; None if unknown.
        memory_limit: of the control group, in bytes; None without one.
    """

    cpuinfo: str
    num_cores: int
    cpu_limit: float | None
    memory: int | None
    memory_limit: int | None


def this_machine(proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> Machine:
    """The machine, as far as the system tells."""
    groups = _control_groups(_text(proc / "self/cgroup"), sys / "fs/cgroup")
    return Machine(
        cpuinfo=read_cpuinfo(),
        num_cores=num_processors(),
        cpu_limit=min(filter(None, map(_cpu_limit, groups)), default=None),
        memory=_memory(),
        memory_limit=min(filter(None, map(_memory_limit, groups)), default=None),
    )


def _control_groups(own: str, root: Path) -> list[Path]:
    """Folders of the process's groups and of those around them; each may set a limit."""
    folders = []
    for line in own.splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        base = root / controllers if controllers else root
        place = base / path.lstrip("/")
        folders += [place, *(p for p in place.parents if p.is_relative_to(base))]
    # In a container the path may be that of the machine outside, which is not to be seen here.
    return [f for f in dict.fromkeys(folders) if f.is_dir()]


def _cpu_limit(folder: Path) -> float | None:
    quota, period = [*_text(folder / "cpu.max").split(), "", ""][:2]
    if not quota:
        quota = _text(folder / "cpu.cfs_quota_us").strip()
        period = _text(folder / "cpu.cfs_period_us").strip()
    if not (quota.isdecimal() and period.isdecimal() and int(period)):
        return None
    return int(quota) / int(period)


def _memory_limit(folder: Path) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        text = _text(folder / name).strip()
        if text.isdecimal() and int(text) < _UNLIMITED:
            return int(text)
    return None


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def check_processor(machine: Machine) -> Finding:
    """The processor, and how much of it there is to use."""
    name = cpu_field(machine.cpuinfo, "model name") or "processor of unknown type"
    text = f"{name}, {_count(machine.num_cores, 'core')}"
    limit = machine.cpu_limit
    if limit is not None and limit < machine.num_cores:
        text += f", of which the control group allows {limit:g}"
        remedy = f"give the container more, or --direct_num_workers={max(int(limit), 1)} at most"
        return Finding("processor", State.NOTE, text, remedy)
    flags = cpu_flags(machine.cpuinfo)
    if "fpu" in flags and "avx" not in flags:  # an x86 processor
        why = "TensorFlow's wheels need the AVX instructions, which it lacks"
        return Finding("processor", State.WARNING, f"{text}; {why}")
    return Finding("processor", State.OK, text)


def check_memory(machine: Machine) -> Finding:
    """The memory, and whether the large networks fit."""
    if machine.memory is None:
        return Finding("memory", State.NOTE, "unknown")
    usable, text = machine.memory, gib(machine.memory)
    if machine.memory_limit is not None and machine.memory_limit < usable:
        usable = machine.memory_limit
        text += f", of which the control group allows {gib(usable)}"
    if usable < LEAST_MEMORY:
        text += "; a network of 240 million parameters takes some 3 GiB in each worker"
        remedy = "a 512x512 configuration, --micro_batch=1 and one worker"
        return Finding("memory", State.WARNING, text, remedy)
    return Finding("memory", State.OK, text)


def check_matrix_units(cpuinfo: str, environment: Mapping[str, str]) -> Finding:
    """Whether the processor multiplies matrices of bfloat16, and what that means for a job."""
    name, in_float32 = "matrix units", "--precision auto means float32"
    if matrix_units(environment, cpuinfo):
        text = (
            "AMX tiles of the processor; --precision auto means bfloat16 where the first "
            "images of a job agree"
        )
        return Finding(name, State.OK, text)
    if matrix_units({}, cpuinfo):
        setting = switched_off_by(environment) or ""
        text = f"AMX tiles, switched off by {setting}; {in_float32}"
        return Finding(name, State.WARNING, text, f"unset {setting.partition('=')[0]}")
    text = "none in the processor"
    if "avx512_bf16" in cpu_flags(cpuinfo):
        text += ", whose AVX512_BF16 are vector instructions (twice as fast, not more)"
    return Finding(name, State.NOTE, f"{text}; {in_float32}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
