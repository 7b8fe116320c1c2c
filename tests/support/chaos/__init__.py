"""Jobs under faults: what is done to them, and whether their output is that of a quiet run.

    PYTHONPATH=tests/support python -m chaos local --trials 200 --seed 0
    PYTHONPATH=tests/support python -m chaos storage --trials 54 --seed 0
    PYTHONPATH=tests/support python -m chaos flink --trials 28 --seed 0

Everything is drawn from the seed. A trial does something to a job, gives the same command again
until it succeeds (once must do), and compares every file of the output with the undisturbed run's.
`local` and `storage` try the commit protocol without Beam, in a second or two a trial; `flink` a job
on a real cluster (`make engines` fetches it), a minute a trial.
"""
