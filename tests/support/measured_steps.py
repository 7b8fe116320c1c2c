"""Steps of a small network in a process of their own: prints what they showed, as JSON.

KERAS_BACKEND=BACKEND PYTHONPATH=. python tests/support/measured_steps.py
"""

import json
import logging
from typing import Any

import keras
import numpy as np

from benchmarks.steps import fresh_state, made_up
from deepmac.backend import repeatable_weights
from deepmac.config.load import load_config
from deepmac.train.objective import TOTAL
from deepmac.train.step import loss_and_statistics, open_engine

_NET = "model.center_net"
_RESIZER = f"{_NET}.image_resizer.keep_aspect_ratio_resizer"


def small_config(side: int):
    """A network with inputs of so many pixels that compiles in seconds."""
    return load_config(
        "center_net_deepmac_tiny",
        [
            f"{_NET}.num_classes=4",
            f"{_NET}.deepmac_mask_estimation.network_type=hourglass10",
            f"{_NET}.deepmac_mask_estimation.mask_size=8",
            f"{_NET}.deepmac_mask_estimation.num_init_channels=4",
            f"{_RESIZER}.min_dimension={side}",
            f"{_RESIZER}.max_dimension={side}",
        ],
    )


CONFIG = small_config(32)


def after_steps(engine: Any, part: Any, num: int) -> dict[str, Any]:
    """The programs compiled, and the losses, after each of `num` steps."""
    engine.trace(part)
    engine.compile()
    compiled, losses = [], []
    for step in range(num):
        metrics = engine.step([part, part], step, 1e-3, 0.9)
        losses.append(float(metrics[TOTAL]))
        compiled.append(engine.num_compiled)
    return {"compiled": compiled, "losses": losses}


def of_jax(part: Any) -> dict[str, Any]:
    """What only JAX can say: programs, compilations, the effect of rematerialisation."""
    import jax

    from benchmarks.step_memory import kept_bytes, leaving_the_device

    def total(engine, trainable, statistics):
        state = engine._state
        losses, _ = loss_and_statistics(state.model, trainable, statistics, part, 0)
        return losses[TOTAL]

    def printing(x):
        jax.debug.callback(lambda x: None, x)
        return x

    found: dict[str, Any] = {
        "callback": sorted(
            leaving_the_device(jax.jit(printing).lower(np.float32(1)).as_text())
        )
    }
    passes: list[Any] = []
    for rematerialise in (False, True):
        with repeatable_weights():
            state = fresh_state(CONFIG, use_bfloat16=False)
        engine: Any = open_engine(state, rematerialise=rematerialise)
        programs = engine.lower(part).as_text() + engine.lower_update(part).as_text()
        found.setdefault("leaving", []).extend(leaving_the_device(programs))
        trainable, statistics, _, _ = engine.shapes()
        found.setdefault("kept", []).append(
            kept_bytes(lambda t, s, e=engine: total(e, t, s), trainable, statistics)
        )
        values = engine._placed_values()
        passes.append(engine._gradients(*values[:2], part, np.int32(0)))
    plain, again = (jax.tree.leaves(done) for done in passes)
    found["differences"] = [
        float(np.max(np.abs(a - b)) / (np.max(np.abs(a)) + 1e-6))
        for a, b in zip(plain, again, strict=True)
    ]
    found["statistics_moved"] = [
        float(np.max(np.abs(new - old)))
        for new, old in zip(passes[1].statistics, values[1], strict=True)
    ]
    return found


def copies_of_the_state(part: Any) -> list[float]:
    """Arrays on the device, in units of what the state needs: after a first step, and after one
    that follows a checkpoint."""
    import gc

    import jax

    from deepmac.train.checkpoints import predicting_weights

    others = {id(array) for array in jax.live_arrays()}
    state = fresh_state(CONFIG, use_bfloat16=False)
    engine = open_engine(state)
    variables = [*state.model.variables, *state.optimizer.variables, *state.averages]
    needed = sum(v.value.nbytes for v in variables)

    def step(number: int) -> float:
        engine.step([part], number, 1e-3, 0.9)
        gc.collect()
        arrays = [a for a in jax.live_arrays() if id(a) not in others]
        return sum(a.nbytes for a in arrays if not a.is_deleted()) / needed

    found = [step(0)]
    engine.to_variables()
    with predicting_weights(state):
        pass
    engine.to_variables()
    return [*found, step(1)]


class Compilations(logging.Handler):
    """Counts what JAX says that it compiles of the pass."""

    num = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.num += "Finished XLA compilation of jit(_pass)" in record.getMessage()


def main() -> None:
    part = made_up(CONFIG, 2, 3, 2)
    if keras.config.backend() == "jax":
        import jax

        found = {"copies": copies_of_the_state(part)} | of_jax(part)
        counter = Compilations()
        logging.getLogger("jax").addHandler(counter)
        logging.getLogger("jax").propagate = False
        jax.config.update("jax_log_compiles", True)
        found |= after_steps(
            open_engine(fresh_state(CONFIG, use_bfloat16=True)), part, 3
        )
        found["compilations"] = counter.num
    else:
        found = after_steps(
            open_engine(fresh_state(CONFIG, use_bfloat16=True)), part, 3
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
