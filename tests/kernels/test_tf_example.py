"""tf.Example messages against TensorFlow's own classes."""

import numpy as np
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deepmac.data import tf_example

INTEGERS = hnp.arrays(
    np.int64, st.integers(0, 5), elements=st.integers(-(2**63), 2**63 - 1)
)
FLOATS = hnp.arrays(np.float32, st.integers(0, 5))
TEXTS = st.lists(st.binary(max_size=300), max_size=4)
FEATURES = st.dictionaries(st.text(max_size=20), INTEGERS | FLOATS | TEXTS, max_size=5)


def theirs(features):
    example = tf.train.Example()
    example.features.SetInParent()
    for name, values in features.items():
        feature = example.features.feature[name]
        if isinstance(values, list):
            feature.bytes_list.value[:] = values
            feature.bytes_list.SetInParent()
        elif values.dtype.kind == "i":
            feature.int64_list.value[:] = values.tolist()
            feature.int64_list.SetInParent()
        else:
            feature.float_list.value[:] = values.tolist()
            feature.float_list.SetInParent()
    return example


@given(features=FEATURES)
def test_tensorflow_reads_what_is_written_and_needs_as_many_bytes(features):
    written, example = tf_example.encode(features), theirs(features)
    assert tf.train.Example.FromString(written) == example
    assert len(written) == example.ByteSize()


@given(features=FEATURES)
def test_what_is_written_is_read(features):
    found = tf_example.decode(tf_example.encode(features))
    assert found.keys() == features.keys()
    for name, values in features.items():
        np.testing.assert_array_equal(found[name], values)


def test_the_bytes_are_those_of_tensorflow():
    features = {"image": [b"\xff" * 20_000], "n": np.arange(300) - 150, "x": np.ones(3)}
    assert tf_example.encode(features) == theirs(features).SerializeToString(
        deterministic=True
    )


def test_booleans_and_doubles_become_int64_and_float32():
    features = {"a": np.array([True, False]), "b": np.array([0.1])}
    found = tf_example.decode(tf_example.encode(features))
    assert found["a"].tolist() == [1, 0]
    assert found["b"].tolist() == [np.float32(0.1)]
