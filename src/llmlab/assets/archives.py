"""Take single files out of a zip (a wheel) or tar archive, with nothing of it run and nothing written elsewhere."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO

__all__ = ["ArchiveRefused", "take"]


class ArchiveRefused(ValueError):
    """The archive lacks a file that is wanted, or holds something that may not be unpacked."""


def take(archive: Path, wanted: Mapping[str, str], target: Path) -> None:
    """Copy members of ``archive`` into the folder ``target``: ``wanted`` maps a member's path to its new name.

    Only regular files are taken. The target name is ours, so a member cannot choose where it lands; an archive with a
    path that climbs out or starts at the root is refused as a whole, since nobody makes one by accident.

    Raises:
        ArchiveRefused: a member is missing, not a regular file, or an unsafe path occurs.
    """
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as box:
            _refuse_unsafe(archive, box.namelist())
            for member, name in wanted.items():
                try:
                    source: IO[bytes] = box.open(member)
                except KeyError:
                    raise ArchiveRefused(f"{archive.name} has no file {member!r}") from None
                _copy(source, target / name)
        return
    with tarfile.open(archive) as tape:
        members = {member.name: member for member in tape.getmembers()}
        _refuse_unsafe(archive, members)
        for path, name in wanted.items():
            member_info = members.get(path)
            if member_info is None or not member_info.isreg():
                raise ArchiveRefused(f"{archive.name} has no regular file {path!r}")
            content = tape.extractfile(member_info)
            assert content is not None  # it is regular
            _copy(content, target / name)


def _refuse_unsafe(archive: Path, names: Mapping[str, object] | list[str]) -> None:
    for name in names:
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or any(":" in part for part in path.parts[:1]):
            raise ArchiveRefused(f"{archive.name} holds the unsafe path {name!r}; nothing was taken from it")


def _copy(source: IO[bytes], target: Path) -> None:
    with source, target.open("xb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)
