"""Which processors and which environments have matrix units for bfloat16."""

import pytest

from deepmac.matrix_units import cpu_field, cpu_flags, matrix_units, switched_off_by


def cpuinfo(*flags: str) -> str:
    cores = [
        f"processor\t: {core}\nmodel name\t: A: processor\nflags\t\t: fpu {' '.join(flags)}\nbugs\t\t: x\n"
        for core in range(2)
    ]
    return "\n".join(cores)


TILES = cpuinfo("avx512_bf16", "amx_bf16", "amx_tile", "amx_int8")


def test_tiles_are_matrix_units():
    assert matrix_units({}, TILES) == "amx"


@pytest.mark.parametrize(
    "flags",
    [
        ("avx512_bf16", "avx512f"),  # vectors, not matrices
        ("amx_tile", "amx_int8"),  # tiles of whole numbers alone
        ("amx_bf16",),
        (),
    ],
)
def test_anything_less_is_none(flags):
    assert matrix_units({}, cpuinfo(*flags)) is None


@pytest.mark.parametrize("text", ["", "Processor: ARMv8\nFeatures: bf16 i8mm\n", "\0:"])
def test_a_system_that_does_not_tell_has_none(text):
    assert matrix_units({}, text) is None


@pytest.mark.parametrize(
    ("environment", "units"),
    [
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}, None),
        ({"DNNL_MAX_CPU_ISA": "avx2"}, None),
        ({"ONEDNN_MAX_CPU_ISA": "SSE41"}, None),
        ({"ONEDNN_MAX_CPU_ISA": "AVX10_1_512"}, None),
        ({"ONEDNN_MAX_CPU_ISA": "avx512_core_amx"}, "amx"),
        ({"ONEDNN_MAX_CPU_ISA": "AVX10_1_512_AMX_FP16"}, "amx"),
        ({"ONEDNN_MAX_CPU_ISA": "ALL", "DNNL_MAX_CPU_ISA": "AVX2"}, "amx"),
        ({"ONEDNN_MAX_CPU_ISA": "", "DNNL_MAX_CPU_ISA": "AVX2"}, None),
        ({"ONEDNN_MAX_CPU_ISA": "nonsense"}, "amx"),
        ({"TF_ENABLE_ONEDNN_OPTS": "0"}, None),
        ({"TF_ENABLE_ONEDNN_OPTS": "False"}, None),
        ({"TF_ENABLE_ONEDNN_OPTS": "1"}, "amx"),
        ({"PATH": "/bin"}, "amx"),
    ],
)
def test_settings_can_switch_them_off(environment, units):
    assert matrix_units(environment, TILES) == units
    assert (switched_off_by(environment) is None) == (units is not None)


def test_a_setting_is_named_as_it_was_given():
    assert switched_off_by({"ONEDNN_MAX_CPU_ISA": "AVX2"}) == "ONEDNN_MAX_CPU_ISA=AVX2"


def test_fields_are_those_of_the_first_processor():
    assert cpu_field(TILES, "model name") == "A: processor"
    assert cpu_field(TILES, "cache size") == ""
    assert cpu_flags(cpuinfo("avx2")) == {"fpu", "avx2"}


def test_this_machine_can_be_asked():
    assert matrix_units({}) in (None, "amx")
