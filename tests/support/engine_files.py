"""Fetches Flink, Spark and Prism with mvn and go: `python tests/support/engine_files.py [NAME ...]`.

Into `.engines/` of the checkout go the class paths (the jars stay in Maven's own folder), a small
job-server jar for Flink and for Spark whose manifest names them, and Prism.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENGINES = ROOT / ".engines"
_SERVERS = {
    "flink": "org.apache.beam.runners.flink.FlinkJobServerDriver",
    "spark": "org.apache.beam.runners.spark.SparkJobServerDriver",
}
_NEEDED = {"flink": ("java", "mvn"), "spark": ("java", "mvn"), "prism": ("go",)}
_LINE = 70  # bytes of a line of a manifest, of 72 that are allowed


def job_server_jar(name: str) -> Path:
    """Of `flink` or `spark`."""
    return ENGINES / name / "job-server.jar"


def class_path(name: str) -> str:
    """Of `flink` or `spark`: the cluster's own processes need it."""
    return (ENGINES / name / "class_path").read_text()


def prism() -> Path:
    """The program."""
    return ENGINES / "bin" / "prism"


def missing(name: str) -> str | None:
    """Why the engine cannot be started here; None if it can."""
    if name == "prism":
        return None if prism().exists() else f"{prism()} is not there: make engines"
    if shutil.which("java") is None:
        return "there is no java here"
    jar = job_server_jar(name)
    return None if jar.exists() else f"{jar} is not there: make engines"


def fetch(name: str) -> None:
    """Fetches what is not there or was fetched for another description.

    Raises:
        SystemExit: a program is missing, or failed.
    """
    lacking = [program for program in _NEEDED[name] if shutil.which(program) is None]
    if lacking:
        raise SystemExit(f"{name} needs {' and '.join(lacking)} on the PATH")
    if name == "prism":
        _fetch_prism()
    else:
        _fetch_jars(name)


def _fetch_jars(name: str) -> None:
    description = ROOT / "tests" / "engines" / f"{name}.xml"
    folder = ENGINES / name
    jar = job_server_jar(name)
    if jar.exists() and jar.stat().st_mtime > description.stat().st_mtime:
        return
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "class_path"
    _run(
        *("mvn", "--batch-mode", "--quiet", "--file", str(description)),
        *("dependency:build-classpath", "-DincludeScope=runtime"),
        f"-Dmdep.outputFile={paths}",
    )
    jars = [Path(path) for path in paths.read_text().split(":")]
    uris = [path.as_uri() for path in jars]
    _link(jars, folder / "jars")
    with zipfile.ZipFile(jar, "w") as file:
        file.writestr("META-INF/MANIFEST.MF", _manifest(_SERVERS[name], uris))


def _link(jars: list[Path], folder: Path) -> None:
    """The `jars` folder that Spark wants in its home."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in jars:
        (folder / path.name).symlink_to(path)


def _manifest(main_class: str, class_path: list[str]) -> str:
    entry = f"Class-Path: {' '.join(class_path)}"
    lines = [entry[:_LINE]]
    lines += [
        f" {entry[i : i + _LINE - 1]}" for i in range(_LINE, len(entry), _LINE - 1)
    ]
    return "\r\n".join(
        ["Manifest-Version: 1.0", f"Main-Class: {main_class}", *lines, ""]
    )


def _fetch_prism() -> None:
    version = metadata.version("apache-beam")
    stamp = prism().with_suffix(f".{version}")
    if prism().exists() and stamp.exists():
        return
    prism().parent.mkdir(parents=True, exist_ok=True)
    _run(
        *("go", "install", f"github.com/apache/beam/sdks/v2/go/cmd/prism@v{version}"),
        GOBIN=str(prism().parent),
    )
    stamp.touch()


def _run(*command: str, **environment: str) -> None:
    done = subprocess.run(command, env={**os.environ, **environment})
    if done.returncode:
        raise SystemExit(f"{command[0]} failed with status {done.returncode}")


if __name__ == "__main__":
    for engine in sys.argv[1:] or _NEEDED:
        fetch(engine)
