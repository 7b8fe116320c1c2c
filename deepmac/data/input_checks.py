"""Whether a set of records has what a configuration trains on, asked before training begins."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from deepmac.config.label_map import load_label_ids
from deepmac.config.notes import PLACEHOLDER
from deepmac.config.schema import (
    CenterNetConfig,
    FixedShapeResizerConfig,
    ImageResizerConfig,
    KeepAspectRatioResizerConfig,
    PipelineConfig,
)
from deepmac.config.training_schema import (
    InputReaderConfig,
    InputType,
    InstanceMaskType,
)
from deepmac.data.record_set import RecordSet, SourceSet
from deepmac.data.records import Columns, decode_columns
from deepmac.errors import ConfigError, DataError, one_of
from deepmac.text import one_line

_READER = "train_input_reader"
_PATHS = f"{_READER}.tf_record_input_reader.input_path"
_HEAD = "model.center_net.deepmac_mask_estimation"

# Looked at: the first records of the first files.
_FILES, _RECORDS = 4, 16


def input_paths(config: PipelineConfig) -> tuple[str, ...]:
    """Where the records for training are.

    Raises:
        ConfigError: the configuration does not say.
    """
    reader = config.train_input_reader.tf_record_input_reader
    paths = reader.input_path if reader else ()
    if not paths:
        raise ConfigError(
            f"{_PATHS} is missing; name the records, such as a directory that `deepmac build` made"
        )
    for path in paths:
        if PLACEHOLDER in path:
            raise ConfigError(
                f"{_PATHS} is still '{path}'; set it to a directory of records, or to a pattern of files"
            )
    return paths


def check_config(config: PipelineConfig) -> None:
    """Checks what needs no records.

    Raises:
        ConfigError: naming the field.
    """
    net, reader = config.model.center_net, config.train_input_reader
    head = net.deepmac_mask_estimation
    if not _has_fixed_shape(net.image_resizer):
        raise ConfigError(
            "model.center_net.image_resizer gives images of different sizes, which cannot be put into one "
            "batch; use fixed_shape_resizer, or keep_aspect_ratio_resizer with pad_to_max_dimension"
        )
    _check_reader(reader)
    if needs_masks(net) and not reader.load_instance_masks:
        raise ConfigError(
            f"{_READER}.load_instance_masks is false, but the mask loss has the weight "
            f"{head.task_loss_weight:g} ({_HEAD}.task_loss_weight); set the one to true, or the other to 0"
        )
    if needs_points(net) and not (
        reader.num_keypoints and reader.load_keypoint_depth_features
    ):
        field = (
            "num_keypoints"
            if not reader.num_keypoints
            else "load_keypoint_depth_features"
        )
        raise ConfigError(
            f"{_READER}.{field} is not set, but the loss of points has the weight "
            f"{head.pointly_supervised_keypoint_loss_weight:g} "
            f"({_HEAD}.pointly_supervised_keypoint_loss_weight); set the one, or the other to 0"
        )


def _check_reader(reader: InputReaderConfig) -> None:
    refused = {
        "load_multiclass_scores": reader.load_multiclass_scores,
        "load_context_features": reader.load_context_features,
        "load_dense_pose": reader.load_dense_pose,
        "load_track_id": reader.load_track_id,
        "num_additional_channels": reader.num_additional_channels,
        "expand_labels_hierarchy": reader.expand_labels_hierarchy,
        "sample_from_datasets_weights": reader.sample_from_datasets_weights,
        "input_type": reader.input_type is InputType.TF_SEQUENCE_EXAMPLE,
    }
    for name, is_set in refused.items():
        if is_set:
            raise ConfigError(
                f"{_READER}.{name} is not available in training; remove it"
            )


def _has_fixed_shape(resizer: ImageResizerConfig) -> bool:
    match resizer.chosen:
        case KeepAspectRatioResizerConfig(pad_to_max_dimension=is_padded):
            return is_padded
        case FixedShapeResizerConfig():
            return True
    return False


def needs_masks(net: CenterNetConfig) -> bool:
    """Whether a configuration trains on masks."""
    return net.deepmac_mask_estimation.task_loss_weight > 0


def needs_every_instance(net: CenterNetConfig) -> bool:
    """Whether there is a loss that learns from instances without masks."""
    head = net.deepmac_mask_estimation
    return any(
        (
            head.box_consistency_loss_weight,
            head.color_consistency_loss_weight,
            head.augmented_self_supervision_loss_weight,
            head.pointly_supervised_keypoint_loss_weight,
        )
    )


def needs_points(net: CenterNetConfig) -> bool:
    """Whether a configuration trains on points."""
    return net.deepmac_mask_estimation.pointly_supervised_keypoint_loss_weight > 0


def label_ids(reader: InputReaderConfig) -> Mapping[str, int] | None:
    """Ids of category names by the label map of a configuration; None where it names none.

    Raises:
        ConfigError: see `load_label_map`.
    """
    path = reader.label_map_path
    return None if not path or PLACEHOLDER in path else load_label_ids(path)


def check_records(
    config: PipelineConfig,
    sources: Sequence[SourceSet],
    records: RecordSet,
    ids: Mapping[str, int] | None,
) -> list[str]:
    """Checks what records hold against what a configuration trains on.

    Args:
        config: has passed `check_config`.
        sources: the sets of records.
        records: what they hold.
        ids: from `label_ids`.

    Returns:
        What is allowed but may not be meant, in sentences.

    Raises:
        DataError: naming the set and the field.
    """
    notes = []
    for source in sources:
        if source.manifest:
            _check_categories(config, source, ids)
            notes += _check_split(config, source)
        _check_sample(config, source, records, ids)
    return notes


def _check_categories(
    config: PipelineConfig, source: SourceSet, ids: Mapping[str, int] | None
) -> None:
    num_classes = config.model.center_net.num_classes
    beyond = [c for c in source.categories if not 1 <= c.id <= num_classes]
    if beyond:
        raise DataError(
            f"{source.path}: has categories whose ids are not in 1..{num_classes} "
            f"({one_of(f'{c.id} {c.name}' for c in beyond)}), the classes of model.center_net.num_classes"
        )
    if ids is None:
        return
    for category in source.categories:
        given = ids.get(category.name)
        if given != category.id:
            says = "has no such category" if given is None else f"calls it {given}"
            raise DataError(
                f"{source.path}: category {category.id} is '{one_line(category.name)}', but "
                f"{_READER}.label_map_path ({config.train_input_reader.label_map_path}) {says}; give the "
                f"label map of this set, or none: the manifest knows the categories"
            )


def _check_split(config: PipelineConfig, source: SourceSet) -> list[str]:
    if not needs_masks(config.model.center_net):
        return []
    if not source.num_masks:
        raise DataError(
            f"{source.path}: holds no masks (image/object/mask), but {_HEAD}.task_loss_weight is not 0; "
            f"build it with masks, or set the weight to 0"
        )
    split = source.manifest["split"]
    split = split if isinstance(split, str) else one_of(split)  # a file's names
    names = {c.id: c.name for c in source.categories}
    hidden = [i for i in names if i not in source.supervised_ids]
    wanted = config.model.center_net.deepmac_mask_estimation.allowed_masked_classes_ids
    if not wanted:
        if not hidden:
            return []
        return [
            f"{source.path}: hides the masks of {len(hidden)} of {len(names)} categories (split {split}); "
            f"these train with their boxes alone"
        ]
    field = f"{_HEAD}.allowed_masked_classes_ids"
    if lacking := [names[i] for i in hidden if i in wanted]:
        raise DataError(
            f"{source.path}: was built with the split {split} and hides masks that {field} trains on: "
            f"{one_of(lacking)}; build the set with another split, or change the list"
        )
    if not any(i in names for i in wanted):
        raise DataError(
            f"{source.path}: has none of the categories {one_of(wanted)}, which alone may train masks "
            f"({field}); it has {one_of(f'{i} {name}' for i, name in names.items())}"
        )
    return []


def _check_sample(
    config: PipelineConfig,
    source: SourceSet,
    records: RecordSet,
    ids: Mapping[str, int] | None,
) -> None:
    reader, net = config.train_input_reader, config.model.center_net
    num_points = reader.num_keypoints if needs_points(net) else 0
    sample = list(_sample(source, records, ids, num_points))
    if not sample:
        return
    if ids is None and all((c.category_ids < 0).all() for c in sample):
        raise DataError(
            f"{source.path}: the records hold category names but no ids (image/object/class/label); give "
            f"a label map as {_READER}.label_map_path"
        )
    if needs_masks(net):
        _check_masks(reader, source, sample)
    if num_points and all(np.isnan(c.points).all() for c in sample):
        raise DataError(
            f"{source.path}: the records hold no keypoints (image/object/keypoint/y and x), but "
            f"{_HEAD}.pointly_supervised_keypoint_loss_weight is not 0"
        )
    if num_points and all(np.isnan(c.point_depths).all() for c in sample):
        raise DataError(
            f"{source.path}: the keypoints have no depths (image/object/keypoint/z), which say whether "
            f"they are foreground; {_READER}.load_keypoint_depth_features asks for them"
        )


def _check_masks(
    reader: InputReaderConfig, source: SourceSet, sample: Sequence[Columns]
) -> None:
    stored = [c.masks for c in sample if c.masks is not None]
    if not stored:
        raise DataError(
            f"{source.path}: the records hold no masks (image/object/mask), but {_HEAD}.task_loss_weight "
            f"is not 0; write them with masks, or set the weight to 0"
        )
    are_png = isinstance(stored[0], list)
    if are_png != (reader.mask_type is InstanceMaskType.PNG_MASKS):
        found, other = (
            ("PNG files", "PNG_MASKS") if are_png else ("numbers", "NUMERICAL_MASKS")
        )
        raise DataError(
            f"{source.path}: the records hold masks as {found}, but {_READER}.mask_type is "
            f"{reader.mask_type.name}; set it to {other}"
        )


def _sample(
    source: SourceSet,
    records: RecordSet,
    ids: Mapping[str, int] | None,
    num_points: int,
) -> Iterator[Columns]:
    """Some records that have objects. What is damaged is told when its turn comes."""
    for file in source.files[:_FILES]:
        for number in records.of_file(file.path)[:_RECORDS]:
            with contextlib.suppress(DataError):
                columns = decode_columns(
                    records.read(number), category_ids=ids, num_points=num_points
                )
                if len(columns.boxes):
                    yield columns
