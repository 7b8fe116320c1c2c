"""Where the image files of a data set lie."""

import glob
import os
import stat
from collections.abc import Sequence

from deepmac.data.failures import Unusable
from deepmac.data.paths import printable, require_local
from deepmac.errors import DataError

_LEADS_OUT = "{}: leads out of the directory of images"


class ImageSource:
    """The files behind the `file_name`s of a data set.

    Args:
        images: a directory; or a pattern (`*`, `?`, `[...]`, `**`) of directories, each file being
            in exactly one of them, or of files, found by their base names.

    Raises:
        DataError: there is no such directory, or nothing matches.
    """

    def __init__(self, images: str):
        require_local(images)
        self._folders: Sequence[str] = ()
        self._files: dict[str, list[str]] = {}  # base name -> paths
        self._is_pattern = not os.path.isdir(images)
        if not self._is_pattern:
            self._folders = (images,)
        elif glob.has_magic(images):
            self._match(images)
        elif os.path.exists(images):
            raise DataError(f"{images}: not a directory of images")
        else:
            raise DataError(f"{images}: no such directory of images")

    def _match(self, pattern: str) -> None:
        found = sorted(glob.glob(pattern, recursive=True))
        if not found:
            raise DataError(f"{pattern}: nothing matches this pattern of images")
        self._folders = tuple(path for path in found if os.path.isdir(path))
        for path in found:
            if os.path.isfile(path):
                self._files.setdefault(os.path.basename(path), []).append(path)

    def read(self, *names: str) -> bytes:
        """The bytes of an image file, of the first of its names under which there is one.

        Raises:
            Unusable: it is missing, in several places, outside the directory, or cannot be read.
        """
        name = " or ".join(map(printable, names))
        path = self._find(names, name)
        try:
            kind = os.stat(path).st_mode
            if stat.S_ISCHR(kind) or stat.S_ISBLK(kind):
                # It would be read without end.
                raise Unusable("image_unreadable", f"{name}: a device, not a file")
            with open(path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            raise Unusable("image_missing", f"{name}: no such file") from None
        except (OSError, ValueError) as e:  # ValueError: a null character in the name
            reason = e.strerror if isinstance(e, OSError) else str(e)
            raise Unusable("image_unreadable", f"{name}: {reason}") from e

    def _find(self, names: Sequence[str], shown: str) -> str:
        # Annotation files come from anywhere; what they name should not. Files that match a pattern
        # are found by their base names, which lead nowhere.
        leads_out = any(map(_leads_out, names))
        if self._folders and not self._files and leads_out:
            raise Unusable("file_name_malformed", _LEADS_OUT.format(shown))
        if len(names) == 1 and len(self._folders) == 1 and not self._files:
            return os.path.join(self._folders[0], names[0])  # opening it will tell
        for name in names:
            folders = [] if leads_out else self._folders
            paths = [os.path.join(folder, name) for folder in folders]
            found = [path for path in paths if os.path.isfile(path)]
            found += self._files.get(os.path.basename(name), [])
            if len(found) > 1:
                places = " and ".join(_last_parts(path) for path in found[:2])
                raise Unusable("image_ambiguous", f"{shown}: found as {places}")
            if found:
                return found[0]
        if self._folders and leads_out:
            raise Unusable("file_name_malformed", _LEADS_OUT.format(shown))
        where = (
            "no file that matches the pattern" if self._is_pattern else "no such file"
        )
        raise Unusable("image_missing", f"{shown}: {where}")


def _leads_out(file_name: str) -> bool:
    """Whether a relative path leaves where it starts, or the path is no relative one."""
    first = os.path.normpath(file_name).split(os.sep)[0]
    return os.path.isabs(file_name) or first == os.pardir


def _last_parts(path: str) -> str:
    """Folder and file name: where the input lies as a whole is not for its dead letters."""
    folder, name = os.path.split(path)
    return printable(os.path.join(os.path.basename(folder), name))
