"""The variables of a network by the path of attribute names that leads to them."""

import keras


def named_variables(layer: keras.layers.Layer) -> dict[str, keras.Variable]:
    """Every variable under `layer`, as `stem/conv_block/conv/kernel`.

    A path is made of attribute names and list positions and ends with the variable's own name
    (`kernel`, `bias`, `gamma`, `beta`, `moving_mean`, `moving_variance`). It depends on the
    code of the layers alone, not on the automatic names of Keras nor on what else was built.
    Order: as the attributes were assigned.
    """
    named: dict[str, keras.Variable] = {}
    children = _children(layer)
    for name, child in children.items():
        for path, variable in named_variables(child).items():
            named[f"{name}/{path}"] = variable
    inherited = {id(variable) for variable in named.values()}
    for variable in layer.variables:
        if id(variable) not in inherited:
            named[variable.name] = variable
    return named


def layers_under(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """A layer and all that `named_variables` finds below it, each once."""
    found = {id(layer): layer}
    for child in layers_below(layer):
        found |= {id(below): below for below in layers_under(child)}
    return list(found.values())


def layers_below(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers that a layer has as its own."""
    return list(_children(layer).values())


def _children(layer: keras.layers.Layer) -> dict[str, keras.layers.Layer]:
    """The layers among the public attributes; members of lists as `name/position`."""
    children = {}
    for name, value in vars(layer).items():
        if name.startswith("_"):
            continue
        if isinstance(value, keras.layers.Layer):
            children[name] = value
        elif isinstance(value, list | tuple):
            for i, member in enumerate(value):
                if isinstance(member, keras.layers.Layer):
                    children[f"{name}/{i}"] = member
    return children
