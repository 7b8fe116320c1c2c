"""Whether the processor has units that multiply matrices of bfloat16 numbers."""

from collections.abc import Mapping
from pathlib import Path

AMX = "amx"
"""Tiles of Intel processors from 2023 on (Sapphire Rapids)."""

CPUINFO = Path("/proc/cpuinfo")

_MAX_ISA = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")  # today's name, and the older one


def matrix_units(
    environment: Mapping[str, str], cpuinfo: str | None = None
) -> str | None:
    """The kind of matrix units that the network would run on, or None.

    Instructions such as AVX512_BF16 multiply bfloat16 numbers in the ordinary vector registers;
    they are no matrix units, and are twice as fast as float32 at most.

    Args:
        environment: of the process. Some of its variables keep oneDNN, the library that
            TensorFlow multiplies with on a processor, from using what is there.
        cpuinfo: the text of Linux's `/proc/cpuinfo`; by default that of this machine.

    Returns:
        `AMX`, or None where there are none, where they are switched off, and where the system
        does not tell.
    """
    if switched_off_by(environment) is not None:
        return None
    flags = cpu_flags(read_cpuinfo() if cpuinfo is None else cpuinfo)
    return AMX if {"amx_tile", "amx_bf16"} <= flags else None


def switched_off_by(environment: Mapping[str, str]) -> str | None:
    """The setting that keeps TensorFlow from the tiles, as NAME=value; None if none does."""
    name = "TF_ENABLE_ONEDNN_OPTS"
    if environment.get(name, "").lower() in ("0", "false"):
        return f"{name}={environment[name]}"
    # oneDNN reads the first of them that is there, and takes a word it does not know for none.
    name = next((n for n in _MAX_ISA if environment.get(n)), None)
    if name is None:
        return None
    value = environment[name].lower()
    is_below = value.startswith(("sse", "avx")) and "amx" not in value
    return f"{name}={environment[name]}" if is_below else None


def cpu_flags(cpuinfo: str) -> frozenset[str]:
    """The instruction sets of the first processor of a `/proc/cpuinfo` text."""
    return frozenset(cpu_field(cpuinfo, "flags").split())


def cpu_field(cpuinfo: str, name: str) -> str:
    """The value of a line `name : value` of the first processor; empty if there is none."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def read_cpuinfo() -> str:
    """This machine's `/proc/cpuinfo`; empty where there is none."""
    try:
        return CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
