"""`deepmac doctor` in environments that are made up: what it says, and the remedy it names."""

import errno
import json
import os
import sys
from pathlib import Path

import pytest

from deepmac.doctor import diagnosis, machine, packages, places
from deepmac.doctor.findings import Finding, Section, State, is_fit, pip_install
from deepmac.doctor.packages import Distribution, Wanted
from deepmac.doctor.probes import Outcome, run_probes
from deepmac.errors import OptionError

WANTED = Wanted(
    requires=(
        "apache-beam<2.78,>=2.77",
        "tensorflow<2.22,>=2.20",
        "protobuf>=5.29",
        "opencv-python-headless>=4.10",
        'tomli>=2; python_version < "3"',
        'apache-beam[gcp]<2.78,>=2.77; extra == "gcp"',
        'google-cloud-storage<4,>=3; extra == "gcp"',
        'jax>=0.10; extra == "jax"',
    ),
    python=">=3.11",
)
INSTALLED = {
    "apache-beam": Distribution("2.77.0", ('google-apitools>=0.5; extra == "gcp"',)),
    "tensorflow": Distribution("2.21.0", ("protobuf<8,>=6.31",)),
    "protobuf": Distribution("6.33.6"),
    "opencv-python-headless": Distribution("4.13.0.90"),
}


def without(*names, **instead):
    left = {k: v for k, v in INSTALLED.items() if k not in names}
    return left | {k.replace("_", "-"): Distribution(v) for k, v in instead.items()}


def by_name(findings) -> dict[str, Finding]:
    return {f.name: f for f in findings}


def core(installed) -> dict[str, Finding]:
    return by_name(packages.check_core(WANTED, installed))


def bad(findings) -> dict[str, tuple[str, str, str]]:
    return {
        f.name: (f.state, f.text, f.remedy)
        for f in findings
        if f.state not in (State.OK, State.NOTE)
    }


def test_a_good_environment_is_good():
    found = packages.check_core(WANTED, INSTALLED)
    assert [f.name for f in found] == [*INSTALLED]  # no tomli on this Python
    assert {f.state for f in found} == {State.OK}
    assert found[1].text == "2.21.0 (>=2.20, <2.22)"


def test_a_missing_package_has_its_command():
    found = core(without("protobuf"))["protobuf"]
    assert found.state == State.MISSING
    assert found.remedy == "pip install 'protobuf>=5.29'"


def test_an_old_version_is_missing_too():
    found = core(without(apache_beam="2.60.0"))["apache-beam"]
    assert found.state == State.MISSING
    assert found.text == "2.60.0, deepmac needs >=2.77, <2.78"
    assert found.remedy == "pip install 'apache-beam>=2.77,<2.78'"


def test_a_version_that_is_none_does_not_fit():
    assert core(without(protobuf="unknown"))["protobuf"].state == State.MISSING


def test_a_version_that_another_package_cannot_work_with_is_told():
    """The clash of protobuf: new enough for us, too old for TensorFlow."""
    found = bad(packages.check_core(WANTED, without(protobuf="5.29.1")))
    assert found == {
        "protobuf": (
            State.MISSING,
            "5.29.1, but tensorflow 2.21.0 needs >=6.31, <8",
            "pip install 'protobuf>=5.29,>=6.31,<8'",
        )
    }


def test_jax_makes_up_for_tensorflow():
    alone = core(without("tensorflow", jax="0.10.2"))["tensorflow"]
    assert alone.state == State.NOTE
    assert "SavedModels" in alone.text
    assert alone.remedy == "pip install 'tensorflow>=2.20,<2.22'"
    assert core(without("tensorflow"))["tensorflow"].state == State.MISSING


def test_the_same_modules_from_another_package_will_do():
    found = core(without("tensorflow", tensorflow_cpu="2.20.0"))["tensorflow"]
    assert (found.state, found.text) == (
        State.OK,
        "2.20.0, as tensorflow-cpu (>=2.20, <2.22)",
    )
    old = core(without("tensorflow", tensorflow_cpu="2.10.0"))["tensorflow"]
    assert old.remedy == "pip install 'tensorflow-cpu>=2.20,<2.22'"


def test_two_opencvs_are_told():
    found = core(without(opencv_python="4.12.0"))["OpenCV"]
    assert found.state == State.WARNING
    assert found.remedy == (
        "pip uninstall --yes opencv-python-headless opencv-python && "
        "pip install 'opencv-python-headless>=4.10'"
    )


def test_extras_are_never_missed():
    found = by_name(packages.check_extras(WANTED, INSTALLED))
    assert {f.state for f in found.values()} == {State.NOTE}
    assert found["extra gcp"].remedy == "pip install 'deepmac[gcp]'"
    assert found["extra gcp"].text.endswith(
        "not installed: google-apitools, google-cloud-storage"
    )
    full = without(google_apitools="0.5.1", google_cloud_storage="3.1.0", jax="0.10")
    assert {f.state for f in packages.check_extras(WANTED, full)} == {State.OK}


@pytest.mark.parametrize(
    ("version", "system", "state"),
    [
        ("3.11.7", "Linux", State.OK),
        ("3.13.0rc1", "Darwin", State.OK),
        ("3.10.14", "Linux", State.MISSING),
        ("3.14.0", "Linux", State.WARNING),
        ("3.12.1", "Windows", State.MISSING),
    ],
)
def test_python_must_be_one_that_all_of_it_runs_on(version, system, state):
    found = packages.check_python(version, WANTED, system, "x86_64")
    assert found.state == state
    assert bool(found.remedy) == (state != State.OK)


def test_a_bare_checkout_reads_its_project_file(monkeypatch):
    def nowhere(name):
        raise packages.importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(packages.importlib.metadata, "distribution", nowhere)
    read = packages.wanted_packages()
    assert read is not None
    assert read.python.startswith(">=3.")
    found = by_name(packages.check_core(read, packages.installed_packages()))
    assert found["numpy"].state == found["click"].state == State.OK
    assert "pytest" not in found
    assert "extra jax" in by_name(packages.check_extras(read, {}))


def test_staging_needs_newer_tools():
    assert packages.check_staging(INSTALLED, "3.11.7").remedy == (
        "pip install --upgrade 'setuptools>=77' wheel build"
    )
    full = without(setuptools="80", wheel="0.45", build="1.2")
    assert packages.check_staging(full, "3.11.7").state == State.OK


# --- the machine


def host(**changes) -> machine.Machine:
    facts = {
        "cpuinfo": "model name : Xeon\nflags : fpu avx amx_tile amx_bf16\n",
        "num_cores": 8,
        "cpu_limit": None,
        "memory": 16 << 30,
        "memory_limit": None,
    }
    return machine.Machine(**{**facts, **changes})


def test_the_limits_of_a_container_are_told():
    found = machine.check_processor(host(cpu_limit=1.5))
    assert found.text == "Xeon, 8 cores, of which the control group allows 1.5"
    assert found.remedy.endswith("--direct_num_workers=1 at most")
    assert machine.check_processor(host(cpu_limit=64.0)).state == State.OK
    found = machine.check_memory(host(memory_limit=2 << 30))
    assert found.state == State.WARNING
    assert found.text.startswith("16.0 GiB, of which the control group allows 2.0 GiB")
    assert machine.check_memory(host()).text == "16.0 GiB"
    assert machine.check_memory(host(memory=None)).text == "unknown"


def test_control_groups_of_both_versions_are_read(tmp_path):
    proc, sys_ = tmp_path / "proc", tmp_path / "sys"
    group = sys_ / "fs/cgroup/box"
    for folder in (proc / "self", group, sys_ / "fs/cgroup/memory/box"):
        folder.mkdir(parents=True)
    (proc / "self/cgroup").write_text("4:memory:/box/not/seen/here\n0::/box\n")
    (sys_ / "fs/cgroup/memory/box/memory.limit_in_bytes").write_text(f"{3 << 30}\n")
    (group / "cpu.max").write_text("150000 100000\n")
    (group / "memory.max").write_text("max\n")
    (sys_ / "fs/cgroup/cpu.max").write_text("max 100000\n")
    found = machine.this_machine(proc, sys_)
    assert (found.cpu_limit, found.memory_limit) == (1.5, 3 << 30)
    nothing = machine.this_machine(tmp_path, tmp_path)
    assert (nothing.cpu_limit, nothing.memory_limit) == (None, None)


def test_matrix_units_and_what_switches_them_off():
    tiles = host().cpuinfo
    assert machine.check_matrix_units(tiles, {}).state == State.OK
    off = machine.check_matrix_units(tiles, {"ONEDNN_MAX_CPU_ISA": "AVX2"})
    assert (off.state, off.remedy) == (State.WARNING, "unset ONEDNN_MAX_CPU_ISA")
    vectors = machine.check_matrix_units("flags : avx512_bf16", {})
    assert vectors.state == State.NOTE
    assert "AVX512_BF16" in vectors.text
    assert "float32" in machine.check_matrix_units("", {}).text


# --- backends and accelerators


@pytest.mark.parametrize(
    ("environment", "settings", "modules", "chosen"),
    [
        ({}, "", ["tensorflow", "jax"], "tensorflow"),
        ({}, "", ["jax"], "jax"),
        ({}, "", [], None),
        ({"KERAS_BACKEND": "jax"}, "", ["tensorflow", "jax"], "jax"),
        ({}, '{"backend": "jax"}', ["tensorflow", "jax"], "jax"),
        ({}, '{"backend": "torch"}', ["tensorflow"], "torch"),
        ({}, '{"backend": "tensorflow"}', ["jax"], "jax"),
        ({}, "[broken", ["tensorflow"], "tensorflow"),
        ({}, "[]", ["tensorflow"], "tensorflow"),
    ],
)
def test_the_backend_is_the_one_that_keras_will_take(
    environment, settings, modules, chosen
):
    assert diagnosis.expected_backend(environment, settings, modules)[0] == chosen


def trial(devices=(("cpu", "cpu", None),), **facts) -> Outcome:
    listed = [
        dict(zip(("kind", "name", "capability"), d, strict=True)) for d in devices
    ]
    facts = {"version": "2.21.0", "devices": listed, "product": 512.0} | facts
    return Outcome([facts])


def test_the_network_needs_a_backend_that_is_there():
    def check(chosen, outcome=None):
        return diagnosis.check_backend(
            chosen, "why", ["tensorflow"], outcome or trial()
        )

    good = trial(keras="3.15", backend="tensorflow")
    assert check("tensorflow", outcome=good).state == State.OK
    assert check(None).remedy == "pip install tensorflow"
    assert check("jax").remedy == "pip install jax"
    assert check("torch").remedy == "export KERAS_BACKEND=tensorflow"
    assert check("tensorflow", outcome=Outcome(problem="x")).state == State.MISSING
    other = trial(keras="3.15", backend="jax")
    assert check("tensorflow", outcome=other).state == State.WARNING


def test_a_framework_that_breaks_is_missed_only_where_it_is_chosen():
    broken = Outcome(problem="crashed with SIGILL")
    found = diagnosis.check_framework("tensorflow", broken, is_chosen=True)
    assert (found.state, found.remedy[:20]) == (State.MISSING, "a processor with AVX")
    found = diagnosis.check_framework("jax", broken, is_chosen=False)
    assert found.state == State.WARNING


GPUS = Outcome([{"output": "NVIDIA A100, 550.54.15, 40960 MiB\n" * 2}])


def test_a_gpu_without_cuda_wheels_has_the_command_for_each_framework():
    found = diagnosis.check_gpus(GPUS, {"tensorflow": trial(), "jax": trial()}, True)
    assert [f.remedy for f in found[1:]] == [
        "pip install 'tensorflow[and-cuda]==2.21.0'",
        "pip install 'jax[cuda12]'",
    ]
    seen = trial([("gpu", "NVIDIA A100", [8, 0])])
    assert [f.state for f in diagnosis.check_gpus(GPUS, {"jax": seen}, True)] == ["ok"]
    text = diagnosis.check_framework("jax", seen, is_chosen=True).text
    assert text == "2.21.0 sees 1 x NVIDIA A100"


def test_a_gpu_without_a_driver_is_told_and_no_gpu_is_not():
    silent = Outcome(problem="NVIDIA-SMI has failed")
    (found,) = diagnosis.check_gpus(silent, {}, True)
    assert found.state == State.WARNING
    assert diagnosis.check_gpus(silent, {}, False) == []


def test_a_new_driver_gets_the_newer_cuda():
    new = Outcome([{"output": "NVIDIA B200, 580.65, 183359 MiB"}])
    found = diagnosis.check_gpus(new, {"jax": trial()}, True)
    assert found[1].remedy == "pip install 'jax[cuda13]'"


def test_tpus_are_for_jax():
    assert diagnosis.check_tpus({}, False, trial()) == []
    (found,) = diagnosis.check_tpus({}, True, trial())
    assert found.remedy == "pip install 'jax[tpu]'"
    seen = trial([("tpu", "TPU v5e", None)])
    (found,) = diagnosis.check_tpus({"TPU_ACCELERATOR_TYPE": "v5e"}, False, seen)
    assert found.state == State.OK


@pytest.mark.parametrize(
    ("capability", "text"),
    [([9, 0], "bfloat16 among"), ([7, 5], "without"), ([6, 1], "no tensor")],
)
def test_tensor_cores_by_the_generation(capability, text):
    (found,) = diagnosis.check_tensor_cores([trial([("gpu", "G", capability)])])
    assert text in found.text


def test_beam_is_needed_and_other_programs_are_not():
    good = diagnosis.check_beam(Outcome([{"version": "2.77.0"}, {"ran": True}]))
    assert good.state == State.OK
    clash = Outcome(
        problem="TypeError: Descriptors cannot be created directly.", log="x"
    )
    found = diagnosis.check_beam(clash)
    assert (found.state, found.remedy) == (
        State.MISSING,
        "pip install --upgrade protobuf apache-beam",
    )
    states = diagnosis.check_programs({"java": "/usr/bin/java", "go": None})
    assert [f.state for f in states] == [State.OK, State.NOTE, State.NOTE]


# --- formats


def tried(name, package="pillow", needed=True, **result):
    about = {"name": name, "package": package, "needed": needed}
    return [about, about | result] if result else [about]


def test_formats_share_a_line_and_failures_have_one_each():
    outcome = Outcome(
        [
            *tried("PNG, 8 bits", text="Pillow 12"),
            *tried("PNG, palette", text="Pillow 12"),
            *tried("TFRecord", text="crc"),
            *tried(
                "GrabCut",
                "opencv-python-headless",
                problem="ImportError: libGL.so.1: cannot open shared object file",
            ),
            *tried("WebP", needed=False, problem="KeyError: 'WEBP'"),
            *tried("mask PNG", "isal"),
        ],
        problem="crashed with SIGSEGV",
    )
    found = by_name(diagnosis.check_codecs(outcome))
    assert found["Pillow 12"].text == "PNG (8 bits, palette)"
    assert found["GrabCut"].state == State.MISSING
    assert found["GrabCut"].remedy.startswith("apt-get install libgl1")
    assert found["WebP"].state == State.NOTE
    assert found["mask PNG"].text == "crashed with SIGSEGV"
    assert found["mask PNG"].remedy == "pip install --force-reinstall isal"


def test_libraries_that_do_not_load_at_all_are_one_finding():
    found = diagnosis.check_codecs(Outcome(problem="No module named 'numpy'"))
    assert [(f.state, f.remedy) for f in found] == [
        (State.MISSING, "pip install numpy")
    ]


# --- places


def test_a_directory_is_tried_and_left_as_it_was(tmp_path):
    found = places.check_output(str(tmp_path / "to" / "come"))
    assert (found.name, found.state) == ("output", State.OK)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", ["fsync", "rename", "mkdir"])
def test_a_full_disk_is_told_with_the_step(tmp_path, monkeypatch, step):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os if step == "fsync" else Path, step, full)
    found = places.check_output(str(tmp_path))
    monkeypatch.undo()
    assert found.state == State.MISSING
    assert found.text.endswith("No space left on device")
    assert found.remedy.startswith("make room")
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_directory_matters_where_it_was_asked_for(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", refuse)  # root may write anywhere
    monkeypatch.chdir(tmp_path)
    found = places.check_output(str(tmp_path))
    assert (found.state, found.text) == (
        State.MISSING,
        f"{tmp_path}: cannot make a folder: Read-only file system",
    )
    assert places.check_output(None).state == State.WARNING


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "file").touch()
    found = places.check_output(str(tmp_path / "file" / "below"))
    assert found.state == State.MISSING
    assert found.text.endswith("is a file, not a folder")


def test_a_working_directory_that_has_gone_is_told(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    found = places.check_output(None)
    assert (found.state, found.text) == (
        State.WARNING,
        "the working directory has been removed",
    )


def test_little_room_is_a_warning(tmp_path, monkeypatch):
    usage = type("usage", (), {"free": 1 << 20, "total": 1 << 40})
    monkeypatch.setattr(places.shutil, "disk_usage", lambda _: usage)
    assert places.check_output(str(tmp_path)).state == State.WARNING


def test_credentials_are_looked_for_where_google_does(tmp_path):
    def check(environment=(), product=""):
        return places.check_credentials(dict(environment), tmp_path, product)

    assert (check().state, check().remedy) == (State.NOTE, places.LOG_IN)
    assert check(product="Google Compute Engine").state == State.OK
    path = tmp_path / ".config/gcloud/application_default_credentials.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    assert check().text == f"{path}: no JSON"
    path.write_text(json.dumps({"type": "authorized_user", "client_secret": "s3cret"}))
    assert (check().state, check().text) == (State.OK, str(path))
    assert check({"CLOUDSDK_CONFIG": str(tmp_path)}).state == State.NOTE
    gone = check({"GOOGLE_APPLICATION_CREDENTIALS": "gone.json"})
    assert gone.state == State.WARNING
    assert "No such file" in gone.text


@pytest.mark.parametrize("url", ["bucket", "s3://bucket", "gs://", "gs:///folder"])
def test_only_buckets_can_be_asked_for(url):
    with pytest.raises(OptionError, match="--cloud must be gs://BUCKET"):
        places.check_url(url)


@pytest.mark.parametrize(
    ("reports", "problem", "text", "remedy"),
    [
        ([], "ImportError: cannot import name 'storage'", "list it", "deepmac[gcp]"),
        ([], "DefaultCredentialsError: not found", "list it", places.LOG_IN),
        ([], "NotFound: 404 GET: no bucket", "list it", "buckets create gs://b"),
        ([{"listed": 1}], "Forbidden: 403", "write to it", "objectAdmin"),
        ([], "no answer within 5 seconds", "list it", "network"),
    ],
)
def test_a_bucket_that_refuses_is_one_line(reports, problem, text, remedy):
    found = places.check_bucket("gs://b/x", Outcome(reports, problem))
    assert found.state == State.MISSING
    assert f"cannot {text}: {problem}" in found.text
    assert remedy in found.remedy


# --- processes


def python(code):
    return [sys.executable, "-c", code]


def test_a_process_that_hangs_is_stopped_with_what_it_has_started():
    # The second of them would keep the pipes open.
    script = "echo '{\"begun\": 1}'; sleep 100 & sleep 100"
    done = run_probes({"hangs": ["sh", "-c", script]}, {}, timeout=1)["hangs"]
    assert done.problem == "no answer within 1 seconds"
    assert done.facts == {"begun": 1}


def test_processes_that_crash_fail_or_are_not_there_are_told_apart():
    done = run_probes(
        {
            "crashes": python("import os; os.abort()"),
            "raises": python('print(\'{"error": "E: e"}\'); raise SystemExit(1)'),
            "dies": python("import sys; sys.exit('last words')"),
            "is not there": ["/no/such/program"],
            "says": python("print('text')"),
            "works": python("import os; print('{\"x\": \"%s\"}' % os.environ['X'])"),
        },
        {"X": "seen"},
        timeout=60,
    )
    assert {k: v.problem for k, v in done.items()} == {
        "crashes": "crashed with SIGABRT",
        "raises": "E: e",
        "dies": "last words",
        "is not there": "cannot be started: No such file or directory",
        "says": None,
        "works": None,
    }
    assert done["raises"].reports == []
    assert done["says"].facts == {"output": "text\n"}
    assert done["works"].facts == {"x": "seen"}


def test_remedies_name_the_pip_of_this_environment():
    finding = Finding("x", State.MISSING, "t", f"a && {pip_install('b>=1')}")
    section = Section("s", [finding])
    (found,) = section.with_pip("/x/python -m pip").findings
    assert found.remedy == "a && /x/python -m pip install 'b>=1'"
    (found,) = section.with_pip("uv pip", " --python p").findings
    assert found.remedy == "a && uv pip install --python p 'b>=1'"
    assert not is_fit([section])
