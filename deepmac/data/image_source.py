"""Where the image files of a data set lie."""

import errno
import fnmatch
import glob
import os
import posixpath
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence

from deepmac.data.failures import Unusable
from deepmac.data.files import (
    Unreachable,
    exists,
    is_folder,
    is_remote,
    join,
    list_beginning,
    map_requests,
    read_file,
)
from deepmac.data.paths import can_name_an_object, printable
from deepmac.errors import DataError

_LEADS_OUT = "{}: leads out of the directory of images"
_AHEAD = 8
"""Images that are asked for at a time of a remote store: one takes some 50 ms to come, and several to be
worked on in that time."""
_OF_THE_FILE = {
    *(errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP),
    *(errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ENXIO),
}
"""What a file system says of a file or its name, and will say the next time. The rest, such as an
error of a network or too many open files, is of the moment: a dead letter must not come from it."""


class ImageSource:
    """The files behind the `file_name`s of a data set.

    Args:
        images: a directory, local or remote; or a pattern (`*`, `?`, `[...]`, `**`) of
            directories, each file being in exactly one of them, or of files, found by their base
            names. In a directory nothing is listed; of a pattern, a remote store lists what
            begins as it does, once.

    Raises:
        DataError: there is no such directory, nothing matches, or the store does not say.
    """

    def __init__(self, images: str):
        self._is_remote = is_remote(images)
        self._folders: Sequence[str] = ()
        self._files: dict[str, list[str]] = {}  # base name -> paths
        self._listed: Mapping[
            str, int
        ] = {}  # of a remote pattern: all that may be meant
        self._is_pattern = not is_folder(images)
        if not self._is_pattern:
            self._folders = (images,)
        elif glob.has_magic(images):
            self._match(images)
        elif exists(images) if self._is_remote else os.path.exists(images):
            raise DataError(f"{images}: not a directory of images")
        else:
            raise DataError(f"{images}: no such directory of images")

    def _match(self, pattern: str) -> None:
        if self._is_remote:
            self._listed = list_beginning(re.split(r"[*?[]", pattern)[0])
            folders, files = _matching(self._listed, pattern)
        else:
            found = sorted(glob.glob(pattern, recursive=True))
            folders = [path for path in found if os.path.isdir(path)]
            files = [path for path in found if os.path.isfile(path)]
        if not folders and not files:
            raise DataError(f"{pattern}: nothing matches this pattern of images")
        self._folders = tuple(folders)
        for path in files:
            self._files.setdefault(os.path.basename(path), []).append(path)

    def read_each(self, names: Iterable[Sequence[str]]) -> Iterator[bytes | Unusable]:
        """What `read` gives or raises for each of some images, in order.

        From a remote store a few are read ahead.

        Raises:
            Unreachable: as `read`.
        """
        if self._is_remote:
            return map_requests(self._tried, names, at_a_time=_AHEAD)
        return map(self._tried, names)

    def _tried(self, names: Sequence[str]) -> bytes | Unusable:
        try:
            return self.read(*names)
        except Unusable as e:
            return e

    def read(self, *names: str) -> bytes:
        """The bytes of an image file, of the first of its names under which there is one.

        Raises:
            Unusable: it is missing, in several places, outside the directory, or a file that
                cannot be read.
            Unreachable: the store or the file system fails, which says nothing of the image.
        """
        name = " or ".join(map(printable, names))
        paths = self._places(names, name)
        if not self._is_remote:
            return _read_local(paths[0], name)
        for path in filter(can_name_an_object, paths):
            if (data := read_file(path)) is not None:
                return data
        raise Unusable("image_missing", f"{name}: no such file")

    def _places(self, names: Sequence[str], shown: str) -> list[str]:
        """Paths of which the first one that is there is meant; of a local file, just one."""
        # Annotation files come from anywhere; what they name should not. Files that match a pattern
        # are found by their base names, which lead nowhere.
        leads_out = any(map(_leads_out, names))
        if self._folders and not self._files and leads_out:
            raise Unusable("file_name_malformed", _LEADS_OUT.format(shown))
        opening_tells = len(self._folders) == 1 and not self._files
        if opening_tells and (self._is_remote or len(names) == 1):
            return [self._path(self._folders[0], name) for name in names]
        for name in names:
            folders = [] if leads_out else self._folders
            paths = [self._path(folder, name) for folder in folders]
            found = [path for path in paths if self._is_file(path)]
            found += self._files.get(os.path.basename(name), [])
            if len(found) > 1:
                places = " and ".join(_last_parts(path) for path in found[:2])
                raise Unusable("image_ambiguous", f"{shown}: found as {places}")
            if found:
                return found
        if self._folders and leads_out:
            raise Unusable("file_name_malformed", _LEADS_OUT.format(shown))
        where = (
            "no file that matches the pattern" if self._is_pattern else "no such file"
        )
        raise Unusable("image_missing", f"{shown}: {where}")

    def _path(self, folder: str, name: str) -> str:
        # A store takes names as they are; to a file system `./a//b` is `a/b`.
        return join(folder, posixpath.normpath(name) if self._is_remote else name)

    def _is_file(self, path: str) -> bool:
        return path in self._listed if self._is_remote else os.path.isfile(path)


def _read_local(path: str, name: str) -> bytes:
    try:
        kind = os.stat(path).st_mode
        if stat.S_ISCHR(kind) or stat.S_ISBLK(kind):
            # It would be read without end.
            raise Unusable("image_unreadable", f"{name}: a device, not a file")
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise Unusable("image_missing", f"{name}: no such file") from None
    except ValueError as e:  # a null character in the name
        raise Unusable("image_unreadable", f"{name}: {e}") from e
    except OSError as e:
        if e.errno not in _OF_THE_FILE:
            where = printable(path)
            raise Unreachable(f"{where}: cannot be read: {e.strerror or e}") from e
        raise Unusable("image_unreadable", f"{name}: {e.strerror}") from e


def _matching(paths: Iterable[str], pattern: str) -> tuple[list[str], list[str]]:
    """The folders and the files, of those that hold or are some paths, that match as `glob` does."""
    patterns = pattern.rstrip("/").split("/")
    folders: dict[str, bool] = {}
    files = []
    for path in paths:
        folder = path
        while (folder := posixpath.dirname(folder)) and folder not in folders:
            folders[folder] = _matches(folder.split("/"), patterns)
        if not pattern.endswith("/") and _matches(path.split("/"), patterns):
            files.append(path)
    return sorted(f for f, matches in folders.items() if matches), sorted(files)


def _matches(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    """Whether the parts of a path match those of a pattern; `**` stands for any number of them."""
    if not patterns:
        return not parts
    first, *others = patterns
    if first == "**":
        shown = next((i for i, p in enumerate(parts) if p.startswith(".")), len(parts))
        return any(_matches(parts[i:], others) for i in range(shown + 1))
    if not parts or (parts[0].startswith(".") and not first.startswith(".")):
        return False
    return fnmatch.fnmatchcase(parts[0], first) and _matches(parts[1:], others)


def _leads_out(file_name: str) -> bool:
    """Whether a relative path leaves where it starts, or the path is no relative one."""
    first = os.path.normpath(file_name).split(os.sep)[0]
    return os.path.isabs(file_name) or first == os.pardir


def _last_parts(path: str) -> str:
    """Folder and file name: where the input lies as a whole is not for its dead letters."""
    folder, name = os.path.split(path)
    return printable(os.path.join(os.path.basename(folder), name))
