"""What exported files are made of: untouched bytes stay, and a write is whole or not at all, whatever happens to it."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from editkit.edits.compose import scale
from editkit.edits.edit import Edit
from editkit.edits.edit_map import EditMap
from editkit.errors import EditkitError
from editkit.files import atomic_folder
from editkit.files.atomic import write_atomic
from editkit.files.header import read_header
from editkit.model.checkpoints.ldm_names import to_ldm
from editkit.model.checkpoints.single_file import read_projections_ldm
from editkit.model.formats import diffusers_folder, kohya, kv, lora, rewrite, single_file
from tests import ldm
from tests.cases import randn

EDIT = Edit({"*": EditMap(randn(1, 128, 3), randn(2, 3, 128))})
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ldm.save_folder("sd1", tmp_path_factory.mktemp("files") / "tiny")


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Path:
    return ldm.save_single_file("sd1", folder, folder.with_suffix(".safetensors"))


def projections(folder: Path) -> dict[str, Tensor]:
    unet = ldm.state(folder, "unet")
    return {
        name: tensor for name, tensor in unet.items() if name.endswith((".attn2.to_k.weight", ".attn2.to_v.weight"))
    }


def raw(path: Path) -> dict[str, bytes]:
    """The bytes of every tensor, and those before the first as "header"."""
    data, header = path.read_bytes(), read_header(path)
    content = {name: data[slot.start : slot.end] for name, slot in header.tensors.items()}
    return content | {"header": data[: min(slot.start for slot in header.tensors.values())]}


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", ""])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_single_file_replaces_the_edited_bytes_alone(
    dtype: torch.dtype, prefix: str, folder: Path, tmp_path: Path
) -> None:
    source = ldm.save_single_file("sd1", folder, tmp_path / "model.safetensors", dtype, prefix)
    own = read_projections_ldm(source)
    single_file.write(EDIT, own, source, tmp_path / "edited.safetensors", "sd1")
    before, after = raw(source), raw(tmp_path / "edited.safetensors")
    changed = {name for name, part in before.items() if after[name] != part}
    assert changed == {prefix + to_ldm(name, "sd1") for name in own} and list(before) == list(after)
    read = load_file(tmp_path / "edited.safetensors")
    for name, W in EDIT.weights(own).items():
        assert read[prefix + to_ldm(name, "sd1")].dtype == dtype and read[prefix + to_ldm(name, "sd1")].equal(W)
    with safe_open(tmp_path / "edited.safetensors", framework="pt") as opened:
        assert opened.metadata() == {"modelspec.title": "tiny"}


def test_single_file_refuses_another_file(folder: Path, checkpoint: Path, tmp_path: Path) -> None:
    own, part = read_projections_ldm(checkpoint), tmp_path / "edited.safetensors"
    half = {name: tensor.half() for name, tensor in own.items()}
    with pytest.raises(
        EditkitError, match=r"is F32 \[.*\] there, but the edited one is torch.float16 .*model that was"
    ):
        single_file.write(EDIT, half, checkpoint, part, "sd1")
    with pytest.raises(EditkitError, match=r"no tensor input_blocks.* in it; is it the model that was read"):
        single_file.write(EDIT, own, folder / UNET, part, "sd1")
    (tmp_path / "short.safetensors").write_bytes(checkpoint.read_bytes()[:-1])
    with pytest.raises(EditkitError, match=r"short.safetensors: .* its header says .*truncated"):
        single_file.write(EDIT, own, tmp_path / "short.safetensors", part, "sd1")


def messy(folder: Path, root: Path) -> Path:
    """The pipeline as hubs have it: links into a store, shards with an index, a half-precision variant, pickles."""
    import shutil

    from diffusers import UNet2DConditionModel

    source = root / "messy"
    shutil.copytree(folder, source)
    unet = UNet2DConditionModel.from_pretrained(source / "unet")
    (source / UNET).unlink()
    unet.save_pretrained(source / "unet", max_shard_size="400KB")
    unet.half().save_pretrained(source / "unet", variant="fp16")
    vae = source / "vae" / "diffusion_pytorch_model.safetensors"
    vae.rename(root / "blob")
    vae.symlink_to(root / "blob")
    for extra in ("unet/diffusion_pytorch_model.bin", "unet/flax_model.msgpack", "v1.ckpt", "v1.safetensors"):
        (source / extra).write_bytes(b"unedited")
    (source / ".cache").mkdir()
    (source / ".cache" / "lock").write_bytes(b"")
    (source / "README.md").write_text("tiny")
    return source


def test_folder_of_shards_variants_and_links(folder: Path, tmp_path: Path) -> None:
    source, out = messy(folder, tmp_path), tmp_path / "deep" / "edited"
    left_out = diffusers_folder.write(EDIT, projections(folder), source, ["unet"], out).left_out
    extras = {"unet/diffusion_pytorch_model.bin", "unet/flax_model.msgpack", "v1.ckpt", "v1.safetensors"}
    assert set(left_out) == extras
    names = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file() and path.name != "lock"}
    assert names - extras == {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert not any(path.is_symlink() for path in out.rglob("*"))
    assert len(list((out / "unet").glob("*-of-00003.safetensors"))) == 3
    changed: dict[str, Tensor] = {}
    for name in sorted(names - extras):
        if not name.startswith("unet/") or not name.endswith(".safetensors"):
            assert (out / name).read_bytes() == (source / name).read_bytes()
            assert (out / name).samefile(source / name) == name.endswith(".safetensors")
            continue
        before, after = raw(source / name), raw(out / name)
        differing = {key for key, tensor in before.items() if after[key] != tensor}
        assert all("attn2.to_" in key for key in differing)
        own = {key: tensor for key, tensor in load_file(source / name).items() if key in differing}
        assert all(load_file(out / name)[key].equal(tensor) for key, tensor in EDIT.weights(own).items())
        changed |= {} if "fp16" in name else own
        assert differing or (out / name).samefile(source / name)
    assert set(changed) == set(projections(folder))


def test_folder_refuses_what_would_mislead_or_destroy(folder: Path, tmp_path: Path) -> None:
    def write(out: Path, source: Path = folder, force: bool = False) -> None:
        diffusers_folder.write(EDIT, projections(folder), source, ["unet"], out, force)

    for own in (folder, folder / "edited", folder.parent):
        with pytest.raises(EditkitError, match="lies in the model's own folder or around it"):
            write(own, force=True)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("dear")
    with pytest.raises(EditkitError, match="letters exists and is not overwritten unasked; give another --out, or"):
        write(tmp_path / "letters")
    with pytest.raises(EditkitError, match=r"a folder that is no pipeline \(no model_index.json\) is not replaced"):
        write(tmp_path / "letters", force=True)
    with pytest.raises(EditkitError, match="expected a folder name, this is a file"):
        write(tmp_path / "letters" / "dear.txt", force=True)
    with pytest.raises(EditkitError, match=r"unet: no .*attn2.to_k.weight in its safetensors files; is it the model"):
        diffusers_folder.write(EDIT, {"attn2.to_k.weight": torch.zeros(1, 128)}, folder, ["unet"], tmp_path / "out")
    source = messy(folder, tmp_path)
    (source / "vae" / "diffusion_pytorch_model.safetensors").rename(source / "vae" / "diffusion_pytorch_model.bin")
    with pytest.raises(
        EditkitError,
        match=r"vae/diffusion_pytorch_model.bin: expected safetensors, this is a pickle",
    ):
        write(tmp_path / "out", source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blob", "letters", "messy"]


@pytest.mark.parametrize("exchanges", [True, False])
def test_folder_is_replaced_when_forced(
    exchanges: bool, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchanges:  # as on systems that cannot swap two names
        monkeypatch.setattr(atomic_folder, "_exchange", lambda first, other: False)
    out = tmp_path / "edited"
    diffusers_folder.write(EDIT, projections(folder), folder, ["unet"], out)
    (out / "unet" / "old.txt").write_text("old")
    diffusers_folder.write(scale(EDIT, 0.0), projections(folder), folder, ["unet"], out, force=True)
    assert (out / UNET).read_bytes() == (folder / UNET).read_bytes()
    assert not (out / "unet" / "old.txt").exists() and os.listdir(tmp_path) == ["edited"]


Write = Callable[[Path], object]


def writers(folder: Path, checkpoint: Path) -> dict[str, Write]:
    own = projections(folder)
    parts: dict[str, Any] = {
        "kv": lambda part: kv.write(EDIT, own, part),
        "lora": lambda part: lora.write(EDIT, own, part),
        "kohya": lambda part: kohya.write(EDIT, own, part, "sd1"),
        "single-file": lambda part: single_file.write(EDIT, own, checkpoint, part, "sd1"),
    }
    whole: dict[str, Write] = {
        name: lambda out, write=write: write_atomic(out, write, force=True) for name, write in parts.items()
    }
    return whole | {"diffusers": lambda out: diffusers_folder.write(EDIT, own, folder, ["unet"], out, force=True)}


def _alone(work: Callable[[Any], None], pipe: Any) -> None:
    """A forked process has no thread of its parent's pool: it computes with its own one."""
    torch.set_num_threads(1)
    work(pipe)


def in_another_process(work: Callable[[Any], None]) -> tuple[Any, Any]:
    """`work(pipe)` in a process of its own; returns it and our end of the pipe."""
    context: Any = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_alone, args=(work, theirs))
    process.start()
    return process, ours


@pytest.mark.parametrize("had_one", [False, True], ids=["nothing", "an old one"])
@pytest.mark.parametrize("moment", ["_bytes", "fsync", "replace"])
@pytest.mark.parametrize("name", ["single-file", "diffusers"])
def test_a_killed_process_leaves_what_was_there(
    name: str, moment: str, had_one: bool, folder: Path, checkpoint: Path, tmp_path: Path
) -> None:
    write, out = writers(folder, checkpoint)[name], tmp_path / "out"
    if had_one:
        write(out)
        (out / "unet" / "old.txt" if out.is_dir() else out).write_text("old")

    def work(pipe: Any) -> None:
        def stop(*_: Any, **__: Any) -> None:
            pipe.send("here")
            time.sleep(60)

        places = {"_bytes": rewrite, "fsync": os, "replace": atomic_folder if name == "diffusers" else Path}
        setattr(places[moment], "_put" if places[moment] is atomic_folder else moment, stop)
        write(out)

    process, pipe = in_another_process(work)
    assert pipe.recv() == "here"
    started = [path for path in tmp_path.iterdir() if path.name.startswith(".out.")]
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert started and out.exists() == had_one
    if had_one:
        assert (out / "unet" / "old.txt" if out.is_dir() else out).read_text() == "old"


@pytest.mark.parametrize("name", ["kv", "lora", "kohya", "single-file", "diffusers"])
def test_a_full_disk_is_named_and_leaves_nothing(name: str, folder: Path, checkpoint: Path, tmp_path: Path) -> None:
    def work(pipe: Any) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            writers(folder, checkpoint)[name](tmp_path / "out")
        except EditkitError as error:
            pipe.send(str(error))

    process, pipe = in_another_process(work)
    assert pipe.poll(60)
    said = pipe.recv()
    process.join()
    assert "out: cannot be written (" in said and "File too large" in said and said.endswith("nothing was changed")
    assert not list(tmp_path.iterdir())


def test_a_part_that_is_left_over_is_in_nobodys_way(folder: Path, tmp_path: Path) -> None:
    (tmp_path / ".out.0a1b2c3d").mkdir()
    diffusers_folder.write(EDIT, projections(folder), folder, ["unet"], tmp_path / "out")
    assert (tmp_path / "out" / "model_index.json").is_file()
