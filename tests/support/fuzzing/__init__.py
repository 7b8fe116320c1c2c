"""Fuzzing: inputs that nobody would write, for everything that reads a file.

    python -m fuzzing TARGET [TARGET ...] --minutes 10 --seed 0      (or `make fuzz`)
    python -m fuzzing TARGET --replay FILE                           one input again, with its traceback

A target reads bytes with our code. Only a `DeepmacError` of one line may come out of it, or an answer
that keeps the target's laws; another exception, a signal, 5 seconds of CPU time or 2 GiB of memory for
one input are findings. See `target.Target`.
"""
