"""Images per second of the training input, beside TensorFlow's plain decode and resize.

    python -m benchmarks.input_speed [--num_images 200] [--repeats 5]

Records of a COCO-like set (640 x 480 JPEGs of 127 kB, seven masks each) become input of 512 pixels: read,
check, decode, augment, resize, cut the masks. Its peer does `tf.io.decode_jpeg` and `tf.image.resize` of the
same images, which lie in memory, and nothing else. Both on one thread, in turns, in CPU seconds of the
process; the ratio is the median over the turns. Prints Markdown.
"""

import argparse
import dataclasses
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from benchmarks.coco_like import write_set
from deepmac.config.load import load_config
from deepmac.data.input import training_input
from deepmac.data.record_set import index_records, open_each
from deepmac.data.records import decode_columns
from pipelines.build_dataset import main as build

CONFIG = "center_net_deepmac_512x512_voc_only"
SIDE = 512
BATCH = 8


def write_records(folder: Path, num_images: int) -> str:
    """A directory of records."""
    write_set(folder / "set", num_images)
    arguments = {
        "annotations": folder / "set" / "annotations.json",
        "images": folder / "set" / "images",
        "out": folder / "records",
        "num_shards": 4,
    }
    status = build([f"--{key}={value}" for key, value in arguments.items()])
    assert status == 0, status
    return str(folder / "records")


def ours(records: str, with_augmentation: bool) -> Iterator[object]:
    """Batch after batch of a run. None is made ahead: threads would go on in the turn of the peer."""
    path = f"train_input_reader.tf_record_input_reader.input_path={records}"
    config = load_config(CONFIG, [path])
    if not with_augmentation:
        train = dataclasses.replace(config.train_config, data_augmentation_options=())
        config = dataclasses.replace(config, train_config=train)
    source = training_input(config, seed=0, batch_size=BATCH, num_threads=1)
    for k in itertools.count():
        # Held while the next one is made, as in training: else its memory goes back to the system
        batch = source.batch_at(k)
        yield batch


def peer(records: str) -> Iterator[object]:
    """Image after image, decoded and resized; as many at a time as a batch holds."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    found = index_records(open_each([records]))
    encoded = [decode_columns(found.read(k)).encoded for k in range(len(found))]
    for first in itertools.count(step=BATCH):
        for k in range(first, first + BATCH):
            pixels = tf.io.decode_jpeg(encoded[k % len(encoded)], channels=3)
            tf.image.resize(pixels, (SIDE * 3 // 4, SIDE))
        yield None


def cpu_seconds(batches: Iterator[object], num_images: int) -> float:
    """Of an image."""
    started = time.process_time()
    for _ in range(num_images // BATCH):
        next(batches)
    return (time.process_time() - started) / (num_images // BATCH * BATCH)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num_images", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(argv)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as temporary:
        records = write_records(Path(temporary), options.num_images)
        makers = {
            "decode and resize by TensorFlow": peer(records),
            "all of the input, without augmentation": ours(records, False),
            "all of the input, with the six augmentations": ours(records, True),
        }
        for make in makers.values():
            cpu_seconds(make, 6 * BATCH)
        seconds = {name: [] for name in makers}
        for _ in range(options.repeats):
            for name, make in makers.items():
                seconds[name].append(cpu_seconds(make, options.num_images))
    base, *_ = seconds.values()
    print("| what | CPU ms/image | images per CPU second | of TensorFlow's rate |")
    print("|---|---:|---:|---:|")
    for name, each in seconds.items():
        ratio = np.median(np.array(base) / np.array(each))
        middle = np.median(each)
        print(f"| {name} | {middle * 1e3:.2f} | {1 / middle:.0f} | {ratio:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
