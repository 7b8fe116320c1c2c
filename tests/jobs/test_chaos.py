"""Whatever is done to a job, the same command ends with the output of an undisturbed run.

`python -m chaos` (tests/support) does more of it; benchmarks/README.md has its tables.
"""

from chaos.local import LocalChaos


def test_jobs_on_a_local_disk_survive_what_is_done_to_them(tmp_path):
    chaos = LocalChaos(tmp_path, seed=1)
    outcomes = list(chaos.trials(16))
    assert max(outcome.runs for outcome in outcomes) <= 2
