"""Groups of categories to report apart, and how they are named on the command line."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from deepmac.categories import Category
from deepmac.data.json_file import read_json
from deepmac.data.splits import parse_groups
from deepmac.errors import OptionError, did_you_mean, one_of
from deepmac.evaluation.parameters import Scope
from deepmac.text import short

_WORDS = ("voc", "non_voc", "supercategories")
_FORMS = "voc, non_voc, supercategories, NAME=CATEGORIES or @FILE.json"

SPLIT = ("seen", "unseen")
"""Groups that there are where masks of some categories alone were seen."""


def groups_evaluated(
    seen: Collection[Any] | None,
    named: Mapping[str, Collection[Any]],
    known: Scope,
    scope: Scope,
) -> dict[str, list[Any]]:
    """Ids of the categories of each group; only one that is asked for by name may have none.

    Args:
        seen: ids of the categories whose masks were seen; None for no such groups.
        named: name of a further group -> ids.
        known: every category of the data set.
        scope: those that are evaluated.
    """
    split = {}
    if seen is not None:
        both = seen, [c for c in known.category_ids if c not in seen]
        split = dict(zip(SPLIT, both, strict=True))
    found = {
        name: [c for c in scope.category_ids if c in ids]
        for name, ids in (split | dict(named)).items()
    }
    return {name: ids for name, ids in found.items() if ids or name in named}


def categories_of(scope: Scope) -> list[Category]:
    """The categories of a scope, with their names."""
    return [Category(i, scope.category_names[i]) for i in scope.category_ids]


def named_groups(
    texts: Iterable[str],
    categories: Sequence[Category],
    supercategory_of: Mapping[Any, str],
    taken: Iterable[str] = (),
) -> dict[str, frozenset[Any]]:
    """Name of a group -> its category ids.

    Args:
        texts: each one of `voc` and `non_voc`; `supercategories`, a group for each; `NAME=LIST`,
            where LIST is what `splits.parse_groups` reads; `@FILE.json`, which holds an object
            of such lists: names or ids of categories by the name of the group.
        categories: of the data set.
        supercategory_of: category id -> super-category, where it has one.
        taken: names that are in use.

    Raises:
        OptionError: a text is none of these, a category is unknown (says the nearest), or two
            groups have one name.
    """
    found: dict[str, frozenset[Any]] = {}
    used = {"all", *taken}
    for text in texts:
        for name, ids in _groups_of(text, categories, supercategory_of):
            if name in used:
                raise OptionError(
                    f"--group {text}: there is a group '{name}' already; give another name"
                )
            used.add(name)
            found[name] = ids
    return found


def ids_named(text: str, categories: Sequence[Category], flag: str) -> frozenset[Any]:
    """The categories that an option names; see `splits.parse_groups`.

    Raises:
        OptionError: says which option.
    """
    try:
        return parse_groups(text, categories)
    except OptionError as e:
        raise OptionError(f"{flag}: {e}") from None


def _groups_of(
    text: str, categories: Sequence[Category], supercategory_of: Mapping[Any, str]
) -> list[tuple[str, frozenset[Any]]]:
    """(name, category ids) of each group that a text stands for."""
    if text == "supercategories":
        return _supercategories(supercategory_of)
    if text.startswith("@"):
        return _in_file(text[1:], categories)
    name, is_list, members = text.partition("=")
    name = name.strip()
    if not is_list and name not in _WORDS:
        hint = did_you_mean(name, _WORDS) or f"; a group is {_FORMS}"
        raise OptionError(f"--group {text}: no such group{hint}")
    if not name:
        raise OptionError(f"--group {text}: there is no name before the =")
    return [
        (name, ids_named(members if is_list else name, categories, f"--group {name}"))
    ]


def _supercategories(of: Mapping[Any, str]) -> list[tuple[str, frozenset[Any]]]:
    if not of:
        raise OptionError(
            "--group supercategories: the categories of the ground truth have no 'supercategory'; "
            "name the groups with NAME=CATEGORIES or @FILE.json"
        )
    names = dict.fromkeys(of.values())
    return [(n, frozenset(i for i, its in of.items() if its == n)) for n in names]


def _in_file(
    path: str, categories: Sequence[Category]
) -> list[tuple[str, frozenset[Any]]]:
    stored = read_json(path)
    if not isinstance(stored, dict) or not stored:
        raise OptionError(
            f"--group @{path}: holds {short(stored)}, not an object with a list of categories for "
            f"each group"
        )
    known = {c.name: c.id for c in categories} | {str(c.id): c.id for c in categories}
    found = []
    for name, members in stored.items():
        where = f"--group @{path}: group '{name}'"
        if not isinstance(members, list) or not members:
            raise OptionError(f"{where} is {short(members)}, not a list of categories")
        for member in members:
            if isinstance(member, bool) or str(member) not in known:
                hint = did_you_mean(str(member), known) or (
                    f"; it has {one_of(c.name for c in categories)}"
                )
                raise OptionError(
                    f"{where}: the data set has no category {short(member)}{hint}"
                )
        found.append((name, frozenset(known[str(m)] for m in members)))
    return found
