"""Edits on loaded pipelines, in every state that a pipeline can be in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import editkit
from editkit.edits.compose import scale
from editkit.edits.method import Options
from editkit.model.apply import network_of
from editkit.model.editable import open_model


@pytest.fixture
def pipe(tiny_sd: Path) -> Any:
    return editkit.load(tiny_sd)


@pytest.fixture(scope="module")
def edit(tiny_sd: Path) -> editkit.Edit:
    options = Options("uce", protect="none", tokens="all", lamb=0.01)
    return editkit.erase(open_model(tiny_sd), ["church"], ["a dog"], options=options, checked=False)


def state(pipe: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network_of(pipe).state_dict().items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_apply_then_revert_gives_the_very_bits(dtype: torch.dtype, pipe: Any, edit: editkit.Edit) -> None:
    pipe.unet.to(dtype)
    before = state(pipe)
    with pytest.raises(ZeroDivisionError), editkit.applied(pipe, edit):
        during = state(pipe)
        raise ZeroDivisionError
    assert all(torch.equal(value, before[name]) for name, value in state(pipe).items())
    changed = {name for name, value in during.items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if ".attn2.to_k." in name or ".attn2.to_v." in name}


def test_fused_projections_are_refused(pipe: Any, edit: editkit.Edit) -> None:
    pipe.fuse_qkv_projections()
    with (
        pytest.raises(editkit.EditkitError, match=r"call unfuse_qkv_projections\(\) first"),
        editkit.applied(pipe, edit),
    ):
        pass


def test_offloaded_and_quantised_weights_are_refused(pipe: Any, edit: editkit.Edit) -> None:
    name = next(name for name, _ in pipe.unet.named_modules() if name.endswith("attn2.to_k"))
    layer = pipe.unet.get_submodule(name)
    layer.weight = torch.nn.Parameter(layer.weight.detach().to(torch.int8), requires_grad=False)
    with pytest.raises(editkit.EditkitError, match=r"quantised to torch\.int8"), editkit.applied(pipe, edit):
        pass
    pipe.unet.to("meta")
    with pytest.raises(editkit.EditkitError, match="offloaded"), editkit.applied(pipe, edit):
        pass


def test_a_compiled_pipeline_is_edited(pipe: Any, edit: editkit.Edit) -> None:
    plain = pipe.unet
    pipe.unet = torch.compile(plain, backend="eager")
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    with editkit.applied(pipe, edit):
        assert any(not torch.equal(value, before[name]) for name, value in plain.state_dict().items())
    assert all(torch.equal(value, before[name]) for name, value in plain.state_dict().items())


def test_a_lora_that_comes_meanwhile_is_in_nobodys_way(pipe: Any, edit: editkit.Edit) -> None:
    from peft import LoraConfig

    before = state(pipe)
    with editkit.applied(pipe, edit):
        pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_k", "to_v"], init_lora_weights=False))
    with editkit.applied(pipe, edit):
        during = {name.replace(".base_layer", ""): value for name, value in state(pipe).items()}
    pipe.unet.delete_adapters("default")
    after = {name.replace(".base_layer", ""): value for name, value in state(pipe).items()}
    assert all(torch.equal(after[name], value) for name, value in before.items())
    text = [name for name in before if ".attn2.to_k." in name or ".attn2.to_v." in name]
    assert text and all(not torch.equal(during[name], before[name]) for name in text)


def test_what_does_not_fit_the_dtype_is_refused(pipe: Any, edit: editkit.Edit) -> None:
    pipe.unet.half()
    far = edit
    for _ in range(7):
        far = scale(far, 10)
    with pytest.raises(editkit.EditkitError, match=r"do not fit torch\.float16"), editkit.applied(pipe, far):
        pass
