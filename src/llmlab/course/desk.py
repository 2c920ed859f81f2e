"""``llmlab lab``: JupyterLab, opened on the start page, with settings that suit a course that works offline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from llmlab.course.places import repository

__all__ = ["leave_static_forms", "main", "write_settings"]

SETTINGS = {
    # The news and update checks ask the network; the course must not.
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    # Without the saved state a reopened notebook shows "model not found" where a widget was.
    "@jupyter-widgets/jupyterlab-manager:plugin": {"saveState": True},
    # A course is read downwards: long lines fold.
    "@jupyterlab/notebook-extension:tracker": {"codeCellConfig": {"lineWrap": True}},
}

VIEW = "application/vnd.jupyter.widget-view+json"


def write_settings(prefix: Path = Path(sys.prefix)) -> Path:
    """Write the course's defaults into this environment's JupyterLab; what a learner sets by hand still wins.

    Settings that somebody else put there are kept, except the keys that the course needs.
    """
    file = prefix / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    there = json.loads(file.read_text(encoding="utf8")) if file.exists() else {}
    wanted = {**there, **SETTINGS}
    if wanted != there:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf8")
    return file


def leave_static_forms(*, model: dict[str, Any], **_: Any) -> None:
    """Jupyter's hook before a save: a view whose widget is not saved with it gives way to the static form beside it.

    JupyterLab forgets the widgets of an earlier session as soon as one cell has run in the next, but keeps their views
    in the outputs. Opened a third time, the notebook would say "widget model not found" in their place.
    """
    notebook = model.get("content")
    if model.get("type") != "notebook" or not isinstance(notebook, dict):
        return
    widgets = notebook.get("metadata", {}).get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {})
    saved = widgets.get("state", {})
    for cell in notebook.get("cells", []):
        for data in (output.get("data", {}) for output in cell.get("outputs", [])):
            if data.get(VIEW, {}).get("model_id") not in saved and len(data) > 1:
                data.pop(VIEW, None)


def main(argv: list[str]) -> int:
    """Start JupyterLab on the start page; further words go to JupyterLab (``--no-browser``, ``--port 9999`` …)."""
    home = repository()
    try:
        write_settings()
    except (OSError, ValueError) as error:
        print(f"JupyterLab's defaults could not be written ({error}); it starts with its own.", file=sys.stderr)
    environment = {**os.environ, "JUPYTER_PREFER_ENV_PATH": "1"}
    hook = f"--ContentsManager.pre_save_hook={__name__}.{leave_static_forms.__name__}"
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={home}", hook, *argv]
    command.append("--LabApp.extension_manager=readonly")  # the other kind lists a registry's packages over the network
    if hasattr(os, "geteuid") and os.geteuid() == 0 and "--allow-root" not in argv:
        command.append("--allow-root")  # in a container one often is root, and the server would refuse to start
    if not any(word.endswith(".ipynb") for word in argv):  # as the front page, so that the printed address leads there
        command.append("--LabApp.default_url=/lab/tree/notebooks/00_start.ipynb")
    print("JupyterLab starts. Ctrl-C here, twice, ends it; your notebooks are saved as you work.", flush=True)
    try:
        return subprocess.run(command, cwd=home, env=environment, check=False).returncode
    except KeyboardInterrupt:
        return 0
