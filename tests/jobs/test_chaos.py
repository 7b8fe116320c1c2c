"""Whatever is done to a job, the same command ends with the output of an undisturbed run.

`python -m chaos` (tests/support) does more of it; benchmarks/README.md has its tables.
"""

from chaos.trials import Chaos, LocalPlace, StoragePlace


def test_jobs_on_a_local_disk_survive_what_is_done_to_them(tmp_path):
    outcomes = list(Chaos(tmp_path, LocalPlace(tmp_path), seed=1).trials(16))
    assert max(outcome.runs for outcome in outcomes) <= 2


def test_jobs_in_storage_survive_what_is_done_to_them(tmp_path, strict_storage):
    chaos = Chaos(tmp_path, StoragePlace(strict_storage), seed=1)
    assert max(outcome.runs for outcome in chaos.trials(9)) <= 2
