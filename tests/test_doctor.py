"""The doctor lives on with any illness, says what it is, and names the command that mends it."""

import builtins
import json
import platform
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from llmlab import assets, doctor, runtime
from llmlab.assets import Row


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """Assets that are all there, and a torch that answers at once; each test spoils one thing."""
    rows = [
        Row(
            a.name,
            "ready",
            "",
            a.package,
            a.version,
            a.licence,
            a.package_licence,
            a.sha256,
            a.disk_mb,
            a.what,
            tmp_path,
        )
        for a in assets.TABLE
    ]
    monkeypatch.setattr(assets, "status", lambda *, full=False: rows)
    set_torch(monkeypatch, 0, stdout='["2.13.0", "cpu", 1]\n')
    return rows


def set_torch(monkeypatch, code, stdout="", stderr=""):
    answer = subprocess.CompletedProcess([], code, stdout, stderr)
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: answer)


def find(topic):
    return next(finding for finding in doctor.report() if finding.topic == topic)


def test_a_sound_machine(capsys):
    code = doctor.main([])
    said = capsys.readouterr().out
    assert code == 0, said
    assert "Everything that the course needs is here." in said
    assert platform.python_version() in said
    assert "2.13.0, device cpu, 1 thread(s)" in said
    for asset in assets.TABLE:
        assert f"{asset.package} {asset.version}, licence {asset.licence}" in said
    topics = [finding.topic for finding in doctor.report()]
    for topic in ("cores", "memory", "disk", "packages", "JupyterLab", "kernel", "browser"):
        assert topic in topics


def test_the_report_for_programs(capsys):
    doctor.main(["--json"])
    found = json.loads(capsys.readouterr().out)
    assert {"topic", "value", "state", "mend"} == set(found[0])


@pytest.mark.parametrize("state", ["missing", "damaged"])
def test_an_asset_that_is_not_whole(monkeypatch, quick, capsys, state):
    sick = Row(**{**quick[0].__dict__, "state": state, "detail": "It is not whole. Fetch it with: python3 …"})
    monkeypatch.setattr(assets, "status", lambda *, full=False: [sick, *quick[1:]])
    finding = find("smollm2")
    assert finding == doctor.Finding(
        "smollm2", f"{state}: It is not whole.", "bad", "python3 course.py assets fetch smollm2"
    )
    assert doctor.main([]) == 1
    assert "1 thing(s) to mend" in capsys.readouterr().out


def test_assets_are_read_byte_by_byte(monkeypatch, quick):
    asked = []
    monkeypatch.setattr(assets, "status", lambda *, full=False: asked.append(full) or quick)
    doctor.report()
    assert True in asked


def test_a_torch_that_does_not_start(monkeypatch):
    set_torch(monkeypatch, 1, stderr="Traceback …\nOSError: libtorch.so: cannot open shared object file\n")
    finding = find("torch")
    assert finding.state == "bad" and "libtorch.so" in finding.value
    assert finding.mend == f'"{sys.executable}" -m pip install --force-reinstall "torch==2.13.0"'


def test_a_torch_that_ends_the_process(monkeypatch):
    set_torch(monkeypatch, -11)
    assert find("torch").value == "does not start: its process ended with -11"


def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setenv("LLMLAB_DEVICE", "gpu")
    with pytest.raises(ValueError) as raised:
        runtime.device()
    set_torch(monkeypatch, 1, stderr=f"Traceback …\nValueError: {raised.value}\n")
    finding = find("torch")
    assert finding.state == "bad" and finding.mend.startswith("LLMLAB_DEVICE='gpu' cannot be used here")


def test_the_real_torch(monkeypatch):
    monkeypatch.undo()  # the real question to the real torch
    monkeypatch.delenv("LLMLAB_THREADS", raising=False)
    (finding,) = doctor._torch()
    assert finding.state == "ok" and "1 thread(s)" in finding.value


def test_a_package_of_another_version(monkeypatch):
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: "4.0.0" if name == "transformers" else real(name))
    finding = find("transformers")
    assert finding.state == "bad" and finding.value.startswith("4.0.0; the course needs")
    assert finding.mend.startswith(f'"{sys.executable}" -m pip install "transformers')


def test_a_missing_package_and_one_that_only_tests_want(monkeypatch):
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in ("jieba", "hypothesis") else real(name))
    needed, optional = find("jieba"), find("hypothesis")
    assert needed.state == "bad" and "jieba==0.42.1" in needed.mend
    assert optional.state == "note" and optional.mend == "python3 course.py test"


def test_a_python_that_is_too_new(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 14, 0, "final", 0))
    (python, _) = doctor._python()
    assert python.state == "bad" and "3.11, 3.12 or 3.13" in python.mend


def test_no_browser_is_noted_and_does_not_fail(monkeypatch):
    monkeypatch.setattr(doctor, "_browser", lambda: "")
    finding = find("browser")
    assert finding.state == "note" and finding.mend
    assert doctor.main([]) == 0


def test_too_little_disk_for_what_is_missing(monkeypatch, quick):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0.3e9))
    assert find("disk").state == "note"
    missing = Row(**{**quick[0].__dict__, "state": "missing"})
    monkeypatch.setattr(assets, "status", lambda *, full=False: [missing, *quick[1:]])
    finding = find("disk")
    assert finding.state == "bad" and "1.6 GB are wanted" in finding.mend and "LLMLAB_CACHE" in finding.mend


def test_a_kernel_of_another_python(monkeypatch):
    from jupyter_client.kernelspec import KernelSpecManager

    spec = SimpleNamespace(argv=["/elsewhere/bin/python", "-m", "ipykernel_launcher"])
    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", lambda self, name: spec)
    finding = find("kernel")
    assert finding.state == "bad" and "/elsewhere/bin/python, another Python" in finding.value
    assert finding.mend == f'"{sys.executable}" -m ipykernel install --sys-prefix'


def test_a_package_that_the_doctor_itself_wants(monkeypatch):
    real = builtins.__import__

    def broken(name, *args, **kwargs):
        if name == "psutil":
            raise ImportError("No module named 'psutil'", name="psutil")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", broken)
    finding = find("machine")
    assert finding.state == "bad" and "psutil" in finding.value
    assert '-m pip install "psutil' in finding.mend
