"""A network and records small enough to train in seconds: 64-pixel pictures of `shapes`."""

from pathlib import Path

import numpy as np

from deepmac.config.schema import CenterNetConfig
from deepmac.train.batch import Batch

OVERRIDES = [
    "model.center_net.feature_extractor.type=hourglass_10",
    "model.center_net.image_resizer.keep_aspect_ratio_resizer.min_dimension=64",
    "model.center_net.image_resizer.keep_aspect_ratio_resizer.max_dimension=64",
    *(
        f"model.center_net.{head}={{num_filters: 8 kernel_sizes: 3}}"
        for head in (
            "object_center_params.center_head_params",
            "object_detection_task.scale_head_params",
            "object_detection_task.offset_head_params",
        )
    ),
    "model.center_net.deepmac_mask_estimation.network_type=hourglass10",
    "model.center_net.deepmac_mask_estimation.num_init_channels=4",
    "model.center_net.deepmac_mask_estimation.mask_size=16",
    "train_config.batch_size=2",
    "train_input_reader.max_number_of_boxes=6",
]
CONFIG = "center_net_deepmac_tiny"


def write_records(folder: Path) -> list[str]:
    """Records for training, in which half of the categories keep their masks, and for evaluation.

    Returns:
        Overrides of `CONFIG` that make the small network, and train it on them.
    """
    from deepmac.samples import write_shapes
    from pipelines import build_dataset

    for name, seed, split in (("train", 1, "@{}/seen.txt"), ("val", 2, "all")):
        shapes = write_shapes(folder / f"shapes_{name}", 8, size=64, seed=seed)
        argv = [
            "--annotations",
            str(shapes.annotations),
            "--images",
            str(shapes.images),
        ]
        argv += ["--split", split.format(shapes.seen.parent), "--num_shards", "2"]
        assert build_dataset.main([*argv, "--out", str(folder / name)]) == 0
    return [
        *OVERRIDES,
        'train_input_reader.label_map_path=""',
        f"train_input_reader.tf_record_input_reader.input_path={folder / 'train'}",
        f"eval_input_reader[0].tf_record_input_reader.input_path={folder / 'val'}",
    ]


def made_up(net: CenterNetConfig, num_images: int) -> Batch:
    """Noise of the small network's size, with three instances anywhere in each image; the same every time."""
    rng = np.random.default_rng(0)
    slots = (num_images, 3)
    corners = np.sort(rng.random((*slots, 2, 2)), axis=2)
    boxes = corners.reshape(*slots, 4).astype(np.float32)
    classes = rng.integers(0, net.num_classes, slots).astype(np.int32)
    ones = np.ones(slots, np.float32)
    images = rng.integers(0, 256, (num_images, 64, 64, 3)).astype(np.float32)
    side = net.deepmac_mask_estimation.mask_size
    return Batch(
        images=images,
        true_shapes=np.full((num_images, 2), 64, np.int32),
        boxes=boxes,
        classes=classes,
        weights=ones,
        roi_boxes=boxes,
        target_boxes=boxes,
        roi_classes=classes,
        roi_weights=ones,
        mask_weights=ones,
        masks=rng.random((*slots, side, side)).astype(np.float32),
        view=np.zeros((num_images, 5), np.float32),
    )
