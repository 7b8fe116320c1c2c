"""Whether a set of records has what a configuration trains on, asked before training begins."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from deepmac.config.label_map import load_label_ids
from deepmac.config.notes import PLACEHOLDER
from deepmac.config.schema import (
    CenterNetConfig,
    FixedShapeResizerConfig,
    ImageResizerConfig,
    KeepAspectRatioResizerConfig,
    MaskHeadConfig,
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
    net, reader = config.model.center_net, config.train_input_reader
    num_points = reader.num_keypoints if needs_points(net) else 0
    held = []
    for source in sources:
        _check_categories(config, source, ids)
        sample = tuple(_sample(source, records, ids, num_points))
        _check_names(source, sample, ids)
        held.append(_Holding(source, sample))
    notes = []
    if needs_masks(net):
        for holding in held:
            _check_mask_type(reader, holding)
        notes += _check_masks(net.deepmac_mask_estimation, held)
    if num_points:
        notes += _check_points(held)
    return notes


@dataclasses.dataclass(frozen=True)
class _Holding:
    """What a set holds, as far as its manifest and its first records tell."""

    source: SourceSet
    sample: Sequence[Columns]

    @property
    def path(self) -> str:
        return self.source.path

    @property
    def names(self) -> dict[int, str]:
        """Of categories by id; empty where nothing tells."""
        return {c.id: c.name for c in self.source.categories}

    @property
    def has_masks(self) -> bool:
        """Also where nothing tells."""
        if self.source.manifest:
            return self.source.num_masks > 0
        return not self.sample or any(c.masks is not None for c in self.sample)

    @property
    def has_points(self) -> bool:
        """Also where nothing tells."""
        return not self.sample or any(np.isfinite(c.points).any() for c in self.sample)

    @property
    def hidden_ids(self) -> set[int]:
        """Categories whose masks the set's split hides."""
        return self.names.keys() - self.source.supervised_ids

    @property
    def split(self) -> str:
        split = self.source.manifest["split"]
        return split if isinstance(split, str) else one_of(split)  # a file's names


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


def _check_names(
    source: SourceSet, sample: Sequence[Columns], ids: Mapping[str, int] | None
) -> None:
    if sample and ids is None and all((c.category_ids < 0).all() for c in sample):
        raise DataError(
            f"{source.path}: the records hold category names but no ids (image/object/class/label); give "
            f"a label map as {_READER}.label_map_path"
        )


def _check_masks(head: MaskHeadConfig, held: Sequence[_Holding]) -> list[str]:
    """Whether the sets together have the masks that are trained on."""
    with_masks = [h for h in held if h.has_masks]
    notes = _lacking(
        held,
        lambda h: h.has_masks,
        "no masks (image/object/mask)",
        f"{_HEAD}.task_loss_weight",
    )
    if wanted := set(head.allowed_masked_classes_ids):
        return notes + _check_allowed(wanted, with_masks)
    return notes + [
        f"{h.path}: hides the masks of {len(h.hidden_ids)} of {len(h.names)} categories (split {h.split}); "
        f"these train with their boxes alone"
        for h in with_masks
        if h.hidden_ids
    ]


def _check_allowed(wanted: set[int], with_masks: Sequence[_Holding]) -> list[str]:
    """Whether the masks of the categories that may train them are there to see."""
    field = f"{_HEAD}.allowed_masked_classes_ids"
    told = [h for h in with_masks if h.names]
    if len(told) < len(with_masks):  # a set without a manifest may show any
        shown = wanted
    else:
        shown = {i for h in told for i in h.names.keys() - h.hidden_ids}
        names = {i: name for h in told for i, name in h.names.items()}
        if not wanted & names.keys():
            raise DataError(
                f"{', '.join(h.path for h in told)}: none of the categories {one_of(sorted(wanted))} is "
                f"there, which alone may train masks ({field}), but "
                f"{one_of(f'{i} {name}' for i, name in names.items())}"
            )
    notes = []
    for h in told:
        hidden = sorted(h.hidden_ids & wanted)
        if nowhere := [h.names[i] for i in hidden if i not in shown]:
            raise DataError(
                f"{h.path}: was built with the split {h.split} and hides masks that {field} trains on: "
                f"{one_of(nowhere)}; build the set with another split, or change the list"
            )
        if hidden:
            notes.append(
                f"{h.path}: hides masks that {field} trains on and other sets show (split {h.split}): "
                f"{one_of(h.names[i] for i in hidden)}"
            )
        elif not wanted & h.names.keys():
            notes.append(
                f"{h.path}: has none of the categories that may train masks ({field}); it trains with its "
                f"boxes alone"
            )
    return notes


def _lacking(
    held: Sequence[_Holding], has: Callable[[_Holding], bool], what: str, weight: str
) -> list[str]:
    """Notes on the sets that have nothing of what is trained on.

    Args:
        held: all sets.
        has: whether one of them has it.
        what: it is that they lack.
        weight: the field of the loss.

    Raises:
        DataError: no set has any.
    """
    paths = [h.path for h in held if not has(h)]
    if len(paths) == len(held):
        raise DataError(
            f"{', '.join(paths)}: {what}, but {weight} is not 0; add records that have them, or set the "
            f"weight to 0"
        )
    return [
        f"{path}: {what}, which other sets have; it trains without them"
        for path in paths
    ]


def _check_points(held: Sequence[_Holding]) -> list[str]:
    for h in held:
        # In each set: a point of unknown depth would train as background
        if (
            h.has_points
            and h.sample
            and all(np.isnan(c.point_depths).all() for c in h.sample)
        ):
            raise DataError(
                f"{h.path}: the keypoints have no depths (image/object/keypoint/z), which say whether "
                f"they are foreground; {_READER}.load_keypoint_depth_features asks for them"
            )
    return _lacking(
        held,
        lambda h: h.has_points,
        "no keypoints (image/object/keypoint/y and x)",
        f"{_HEAD}.pointly_supervised_keypoint_loss_weight",
    )


def _check_mask_type(reader: InputReaderConfig, h: _Holding) -> None:
    stored = [c.masks for c in h.sample if c.masks is not None]
    if not stored:
        return
    are_png = isinstance(stored[0], list)
    if are_png != (reader.mask_type is InstanceMaskType.PNG_MASKS):
        found, other = (
            ("PNG files", "PNG_MASKS") if are_png else ("numbers", "NUMERICAL_MASKS")
        )
        raise DataError(
            f"{h.path}: the records hold masks as {found}, but {_READER}.mask_type is "
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
