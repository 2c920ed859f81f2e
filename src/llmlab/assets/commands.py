"""``llmlab assets list | fetch | verify | ready | path``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from llmlab.assets import store, table

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns 0 if all is well, 1 if an asset is missing, damaged or could not be fetched."""
    parser = argparse.ArgumentParser(prog="llmlab assets", description="The real models and data of the course.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="what there is, its licence, and whether it is here")
    names = [asset.name for asset in table.TABLE]
    fetch = commands.add_parser("fetch", help="bring assets onto this machine (none named: all)")
    fetch.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    fetch.add_argument("--quiet", action="store_true", help="say nothing unless it fails")
    commands.add_parser("verify", help="read every byte and compare with the recorded hashes")
    commands.add_parser("ready", help="exit with 0 if all are here (quick), with 1 if not")
    where = commands.add_parser("path", help="the folder of an asset")
    where.add_argument("name", metavar="NAME", help=", ".join(names))
    chosen = parser.parse_args(argv)
    try:
        if chosen.command == "fetch":
            for name in chosen.names or names:
                store.fetch(name, progress=not chosen.quiet)
            return 0
        if chosen.command == "path":
            print(store.path(chosen.name))
            return 0
    except (store.AssetError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped. The same command goes on from the last complete step.", file=sys.stderr)
        return 130
    return {"list": _list, "verify": _verify, "ready": _ready}[chosen.command]()


def _ready() -> int:
    faults = [row.detail for row in store.status() if row.state != "ready"]
    print("\n".join(faults) or "every asset is here")
    return int(bool(faults))


def _list() -> int:
    for row in store.status():
        print(f"{row.name:15}  {row.state:7}  {row.disk_mb:6.1f} MB  {row.what}")
        print(f"{'':15}  {row.package} {row.version}, licence {row.licence}, of its package {row.package_licence}")
        print(f"{'':15}  archive sha256 {row.sha256}")
    print(f"cache: {store.cache_dir()}")
    return 0


def _verify() -> int:
    rows = store.status(full=True)
    for row in rows:
        print(f"{row.name:15}  " + (row.detail or "every byte is right"))
    return int(any(row.state != "ready" for row in rows))
