"""The examples of docs/transforms.md, run as they stand there."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "transforms.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
EXPECTED = [
    r"(.*'annotation_id': \d\}\n){8}",
    r"from the first camera 1\nfrom the second camera image_unsupported\n",
    r"^1\.000\n$",
]


@pytest.mark.parametrize(
    ("example", "expected"),
    list(zip(EXAMPLES, EXPECTED, strict=True)),
    ids=["LabelImages", "RunInference", "EvaluateMasks"],
)
def test_an_example_runs(example, expected, capsys):
    exec(compile(example, str(PAGE), "exec"), {"__name__": "transforms_page"})
    printed = "\n".join(sorted(capsys.readouterr().out.splitlines())) + "\n"
    assert re.search(expected, printed), printed
