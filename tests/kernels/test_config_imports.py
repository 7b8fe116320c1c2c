"""Reading a configuration must not pay for the network it describes, nor need an installation."""

import subprocess
import sys
from pathlib import Path

HEAVY = ("tensorflow", "keras", "jax", "apache_beam", "numpy", "cv2")


def output_of(code: str, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
    )
    return done.stdout.strip()


def test_configurations_load_without_heavy_packages():
    code = (
        "import sys, deepmac.config.label_map, deepmac.commands.config\n"
        "from deepmac.config.load import load_config\n"
        "load_config('center_net_deepmac_tiny')\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert output_of(code) == "[]"


def test_a_bare_checkout_finds_its_configurations(tmp_path):
    (tmp_path / "deepmac").symlink_to(Path(__file__).parents[2] / "deepmac")
    code = (
        "import sys\n"
        "sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
        "from deepmac.config.load import load_config\n"
        "print(load_config('center_net_deepmac_tiny').model.center_net.num_classes)\n"
        "print('deepmac.configs' in sys.modules)"
    )
    assert output_of(code, cwd=tmp_path).split() == ["24", "False"]
