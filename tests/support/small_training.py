"""A network and records small enough to train in seconds: 64-pixel pictures of `shapes`."""

from pathlib import Path

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
