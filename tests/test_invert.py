"""Textual inversion: rows and files are those of the stock pipeline, losses fall, masks hide, edits erase by rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

import editkit
from editkit.drawing.pipelines import open_denoiser
from editkit.edits.method import Options
from editkit.embeddings.learned import Learned, Vectors
from editkit.emoji.pictures_sheets import objects_as_markdown, pairs_as_markdown, style_as_markdown
from editkit.erasure.pictured import Pictured
from editkit.errors import EditkitError
from editkit.inverting.invert import invert
from editkit.inverting.options import InvertOptions
from editkit.inverting.points import Points, PointSource
from editkit.inverting.search import Search
from editkit.inverting.soft_tokens import PLACEHOLDER, SoftTokens
from editkit.model.editable import EditableModel, open_model
from editkit.tuning.masks import Shown
from editkit.variants.learned_file import load_learned, save_learned
from tests.cli import run
from tests.pictures_of_emoji import noise

CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}
BRIEF = InvertOptions(steps=12, restarts=2, rate=0.05, points=4, held=12)
TEMPLATES = ("{}", "a {} on a boat")


@pytest.fixture(scope="module")
def folders(tiny_sd: Path, tiny_streams: Callable[[str], Path]) -> dict[str, Path]:
    return {"sd": tiny_sd, "sdxl": tiny_streams("sdxl")}


@pytest.fixture(scope="module")
def model(tiny_sd: Path) -> EditableModel:
    return open_model(tiny_sd)


def random_vectors(folder: Path, vectors: int, seed: int = 0) -> Vectors:
    names = ("text_encoder", "text_encoder_2")
    source, made = open_model(folder).source, torch.Generator().manual_seed(seed)
    widths = [source.config(name)["hidden_size"] for name in names if source.config(name)]
    return tuple(0.1 * torch.randn(vectors, width, generator=made) for width in widths)


def stock(folder: Path, file: Path) -> Any:
    """The stock pipeline, which has loaded our file as its pages say."""
    pipe: Any = diffusers.DiffusionPipeline.from_pretrained(folder)
    if "clip_g" not in load_file(file):
        pipe.load_textual_inversion(str(file))
        return pipe
    tensors = load_file(file)
    pipe.load_textual_inversion(
        tensors["clip_g"], token="<boat>", text_encoder=pipe.text_encoder_2, tokenizer=pipe.tokenizer_2
    )
    pipe.load_textual_inversion(
        tensors["clip_l"], token="<boat>", text_encoder=pipe.text_encoder, tokenizer=pipe.tokenizer
    )
    return pipe


@torch.no_grad()
def rows_of(pipe: Any, prompt: str) -> list[Tensor]:
    """The token rows, and SDXL's pooled vector."""
    encoded = pipe.encode_prompt(prompt, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
    return [encoded[0][0], *([encoded[2]] if len(encoded) == 4 else [])]


@pytest.mark.parametrize("vectors", [1, 2])
@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_a_learned_token_is_read_as_the_stock_pipeline_reads_our_file(
    family: str, vectors: int, folders: dict[str, Path], tmp_path: Path
) -> None:
    """By the rows that an edit is solved over, and by those that gradients go through."""
    own = random_vectors(folders[family], vectors)
    save_learned(Learned("<boat>", "boat", (own,)), tmp_path / "boat.safetensors")
    pipe = stock(folders[family], tmp_path / "boat.safetensors")
    knowing = open_model(folders[family]).knowing({"<boat>": own})
    tokens = SoftTokens.of(open_denoiser(folders[family]), vectors)
    for template in TEMPLATES:
        expected = rows_of(pipe, template.replace("{}", "<boat>"))
        for stream, rows in zip(knowing.streams, expected, strict=True):
            mine = stream.encoders[0].encode([template.replace("{}", "<boat>")])[0]
            torch.testing.assert_close(mine, rows.double(), **CLOSE)
        read = tokens.read(template, own)
        torch.testing.assert_close(read.text[0].detach(), expected[0], **CLOSE)
        if len(expected) > 1:
            assert read.pooled is not None
            torch.testing.assert_close(read.pooled.detach(), expected[1], **CLOSE)


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_gradients_are_differences_of_what_is_read(family: str, folders: dict[str, Path]) -> None:
    tokens = SoftTokens.of(open_denoiser(folders[family]), 1)
    own, way = random_vectors(folders[family], 1), random_vectors(folders[family], 1, seed=1)
    leaves = tuple(rows.clone().requires_grad_() for rows in own)

    def value(learned: Vectors) -> Tensor:
        read = tokens.read("a {}", learned)
        return (read.text.double() ** 2 * torch.linspace(0, 1, read.text.shape[-1])).sum()

    slopes = torch.autograd.grad(value(leaves), leaves)
    step = 1e-2
    with torch.no_grad():
        ends = [value(tuple(a + sign * step * b for a, b in zip(own, way, strict=True))) for sign in (1, -1)]
    expected = float(ends[0] - ends[1]) / (2 * step)
    assert sum(float((a * b).sum()) for a, b in zip(slopes, way, strict=True)) == pytest.approx(expected, rel=0.01)


def test_the_denoiser_that_was_given_knows_no_new_token(tiny_sd: Path) -> None:
    denoiser = open_denoiser(tiny_sd)
    before = denoiser.encode([f"a {PLACEHOLDER}"])[0][0].text
    SoftTokens.of(denoiser, 1).read("a {}", random_vectors(tiny_sd, 1))
    assert torch.equal(denoiser.encode([f"a {PLACEHOLDER}"])[0][0].text, before)


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_learning_lowers_the_loss_and_its_seed_repeats_it(
    family: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    told: list[Any] = []
    out = tmp_path / "boat.ti.safetensors"
    first = invert(folders[family], noise(2), "boat", out, BRIEF, device="cpu", tell=told.append)
    assert all(each.loss < each.start for each in told) and len(told) == 2
    assert first.record["losses"] == sorted(each.loss for each in told)
    assert told[0].word == "boat" != told[1].word
    again = load_learned(out)
    assert (again.token, again.word, again.record) == ("<boat>", "boat", first.record)
    for restart, kept in zip(first.restarts, again.restarts, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(restart, kept, strict=True))
    if family == "sd":
        repeated = invert(folders[family], noise(2), "boat", options=BRIEF, device="cpu")
        assert all(torch.equal(a[0], b[0]) for a, b in zip(repeated.restarts, first.restarts, strict=True))


@dataclass(frozen=True)
class StopsAfter:
    """Pictures during whose so-manieth step the user presses Ctrl-C."""

    pictures: PointSource
    steps: int
    asked: list[int] = field(default_factory=list)

    def at(self, t: Tensor, generator: torch.Generator) -> Points:
        self.asked.append(len(t))
        if len(self.asked) > self.steps:
            raise KeyboardInterrupt
        return self.pictures.at(t, generator)


def test_ctrl_c_ends_with_what_was_learned_so_far(tiny_sd: Path) -> None:
    options = replace(BRIEF, steps=100)
    tokens = SoftTokens.of(open_denoiser(tiny_sd), 1)
    search = Search.of(tokens, ("a {}",), Shown.given(noise(1)), options)
    found = replace(search, whole=replace(search.whole, pictures=StopsAfter(search.whole.pictures, 25))).run(0, "boat")
    assert found.stopped and found.steps == 25
    assert found.loss < found.start
    assert not torch.equal(found.erased[0], tokens.embedding_of("boat")[0])


def test_masks_give_two_that_are_near_each_other_and_come_back_from_the_file(tiny_sd: Path, tmp_path: Path) -> None:
    options, out = replace(BRIEF, restarts=1, masked="whole"), tmp_path / "pair.safetensors"
    learned = invert(tiny_sd, noise(2), "boat", out, options, masks=[half(), half()], kept="church", device="cpu")
    far = invert(tiny_sd, noise(2), "boat", options=replace(options, together=10.0), masks=[half()] * 2, kept="church",
                 device="cpu")  # fmt: skip
    assert torch.equal(learned.kept[0][0], far.kept[0][0])
    near, free = (float((each.best[0] - each.kept[0][0]).norm()) for each in (far, learned))
    assert near < free
    assert torch.equal(load_learned(out).kept[0][0], learned.kept[0][0])


def half(size: int = 64, white: str = "right") -> Image.Image:
    """A mask of which one half is white."""
    mask = Image.new("L", (size, size), 0)
    mask.paste(255, (size // 2, 0, size, size) if white == "right" else (0, 0, size // 2, size))
    return mask


def test_what_a_mask_hides_has_no_part_in_the_loss() -> None:
    made = torch.Generator().manual_seed(0)
    said, wanted = (torch.randn(2, 3, 4, 4, generator=made) for _ in range(2))
    weight = torch.rand(2, 1, 4, 4, generator=made)
    weight[:, :, :, :2] = 0
    points = Points(said, torch.zeros(2), wanted, weight)
    naive = [
        sum(float(weight[n, 0, y, x] * (said[n, c, y, x] - wanted[n, c, y, x]) ** 2) for c, y, x in places())
        / sum(float(weight[n, 0, y, x]) for _, y, x in places())
        for n in range(2)
    ]
    torch.testing.assert_close(points.missed(said), torch.tensor(naive))
    other = said.clone()
    other[:, :, :, :2] = 100
    assert torch.equal(points.missed(other), points.missed(said))


def places() -> list[tuple[int, int, int]]:
    return [(c, y, x) for c in range(3) for y in range(4) for x in range(4)]


def test_masks_become_the_mean_of_their_pixels_and_turn_with_their_pictures(tiny_sd: Path) -> None:
    denoiser = open_denoiser(tiny_sd)
    mask = half(8)
    mask.putpixel((0, 0), 255)
    clean, stays = Shown.given(noise(1, (8, 8)), [mask]).latents(denoiser, flip=True)
    assert stays is not None and stays.shape == (2, 1, *clean.shape[2:]) and len(clean) == 2
    assert float(stays.mean()) == pytest.approx(33 / 64)
    assert torch.equal(stays[1], stays[0].flip(-1))


def length(rows: Tensor, gram: Tensor) -> Tensor:
    return (rows.double() @ gram * rows.double()).sum(1).sqrt()


def test_every_row_is_as_long_as_the_class_words_at_its_place(model: EditableModel, tiny_sd: Path) -> None:
    """Of all restarts, however long their vectors are; and so is what they become."""
    restarts = tuple(tuple(5 * rows for rows in random_vectors(tiny_sd, 1, seed)) for seed in range(3))
    learned = Learned("<x>", "boat", restarts)
    rows = Pictured.of(model, [learned]).rows(0, learned, "church", TEMPLATES, "tail")
    expected = []
    for template in TEMPLATES:
        (said,) = model.encoder.encode([template.replace("{}", "boat")])
        own = length(said[model.encoder.subject_at(template, "boat") :], model.gram)
        expected += [own] * len(restarts)
    torch.testing.assert_close(length(rows.source, model.gram), torch.cat(expected), rtol=1e-5, atol=0)
    torch.testing.assert_close(length(rows.target, model.gram), torch.cat(expected), rtol=1e-5, atol=0)


def test_an_edit_by_pictures_sends_every_restart_to_the_guide_and_names_the_word(
    model: EditableModel, tiny_sd: Path
) -> None:
    learned = Learned("<x>", "boat", tuple(random_vectors(tiny_sd, 1, seed) for seed in range(2)))
    made = editkit.erase(
        model,
        [],
        pictures=[learned],
        guides=["church"],
        options=Options("uce", protect="none", lamb=1e-4),
        checked=False,
    )
    assert made.record["concepts"] == ["boat"] and made.record["guides"] == ["church"]
    assert made.record["pictures"]["boat"]["restarts"] == 2
    for vectors in learned.restarts:
        rows = model.knowing({"<x>": vectors}).encoder.encode(["<x>"])[0][1:2]
        guide = model.encoder.encode(["church"])[0][1:2]
        moved = made.map.embeddings(rows) * (length(guide, model.gram) / length(made.map.embeddings(rows), model.gram))
        assert length(moved - guide, model.gram) < 0.05 * length(rows - guide, model.gram)
    plain = editkit.erase(model, ["boat"], ["church"], options=Options("uce", protect="none"), checked=False)
    assert "pictures" not in plain.record


def test_what_masks_leave_is_what_the_whole_becomes_and_stays(model: EditableModel, tiny_sd: Path) -> None:
    whole, kept = (random_vectors(tiny_sd, 1, seed) for seed in range(2))
    learned = Learned("<x>", "boat", (whole,), (kept,))
    made = editkit.erase(
        model,
        [],
        pictures=[learned],
        preserve=["church"],
        options=Options("uce", protect="none", lamb=1e-4),
        checked=False,
    )
    assert made.record["guides"] == ["what the masks leave"]
    before, rest = (model.knowing({"<x>": each}).encoder.encode(["<x>"])[0][1:2] for each in (whole, kept))
    moved = made.map.embeddings(before)
    moved = moved * (length(rest, model.gram) / length(moved, model.gram))
    assert length(moved - rest, model.gram) < 0.05 * length(before - rest, model.gram)
    assert length(made.map.embeddings(rest) - rest, model.gram) < 0.05 * length(before - rest, model.gram)


def test_words_that_mean_what_pictures_show_are_not_held() -> None:
    """The pictures were told to be of a house; their token is the embedding of "church"."""
    model = open_model("emoji")
    clip, number = model.encoder.clip, model.encoder.reader.part("church")[0]
    assert clip is not None
    vectors = (clip.tensors["embeddings.token_embedding.weight"][number][None].float(),)
    shown = Pictured.of(model, [Learned("<x>", "house", (vectors,))])
    assert {"church", "chapel"} <= {*shown.alike(model.own_words())}
    assert "dog" not in shown.alike(model.own_words())
    assert Pictured.of(model, [Learned("<x>", "house", (vectors,), (vectors,))]).alike(model.own_words()) == []


def saved(folder: Path, **pictures: Image.Image) -> Path:
    folder.mkdir()
    for name, picture in pictures.items():
        picture.save(folder / f"{name}.png")
    return folder


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        ({"a": half(32)}, "a.png: expected the size of its picture, 64x64, got 32x32"),
        ({"a": Image.new("L", (64, 64), 255)}, "a.png: is all white, so that it hides nothing; paint black"),
        ({"a": Image.new("L", (64, 64), 0)}, "a.png: is all black, so that nothing stays; paint white"),
        ({"b": half()}, "a.png: expected its mask .*a.png, found none; add it"),
        ({"a": half(), "b": half()}, "b.png: a mask without a picture of that name"),
        ({}, "--masks .*: expected pictures .*, found none"),
    ],
)
def test_masks_that_do_not_fit_are_refused(masks: dict[str, Image.Image], said: str, tmp_path: Path) -> None:
    pictures = saved(tmp_path / "pictures", a=noise(1)[0])
    with pytest.raises(EditkitError, match=said):
        Shown.read(pictures, saved(tmp_path / "masks", **masks))


def test_pictures_and_words_that_do_not_fit_are_refused(tiny_sd: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(EditkitError, match=r"--pictures .*none: expected pictures .*, found none"):
        invert(tiny_sd, tmp_path / "none", "boat")
    broken = saved(tmp_path / "broken")
    (broken / "a.png").write_text("no picture")
    with pytest.raises(EditkitError, match=r"a.png: cannot be read as a picture .*; take it out of --pictures"):
        invert(tiny_sd, broken, "boat")
    with pytest.raises(
        EditkitError, match=r"--word 'soccer ball': expected a word of one token, got 2 \(soccer \+ ball\)"
    ):
        invert(tiny_sd, noise(1), "soccer ball")
    with pytest.raises(EditkitError, match="masks: expected one for each of 2 pictures, got 1"):
        invert(tiny_sd, noise(2), "boat", masks=[half()])


def test_a_model_that_is_not_read_by_clip_alone_is_refused_before_its_weights(
    tiny_streams: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    for config in tiny_streams("flux1").rglob("*.json"):
        copied = folder / config.relative_to(tiny_streams("flux1"))
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_bytes(config.read_bytes())
    with pytest.raises(EditkitError, match=r"is FLUX\.1, and tokens are learned for text encoders of CLIP alone"):
        invert(folder, noise(1), "boat")


def test_files_that_are_no_inversion_are_refused(model: EditableModel, tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"")
    with pytest.raises(EditkitError, match=r"x.pt: is a pickle, which may run code; convert it"):
        load_learned(tmp_path / "x.pt")
    with pytest.raises(EditkitError, match="found no such file; make it with `editkit invert`"):
        load_learned(tmp_path / "y.safetensors")
    save_file({"a": torch.zeros(1, 2), "b": torch.zeros(1, 2)}, tmp_path / "two.safetensors")
    with pytest.raises(EditkitError, match=r"expected one tensor \(vectors, width\), or clip_l and clip_g, got a"):
        load_learned(tmp_path / "two.safetensors")
    save_file({"<cat-toy>": torch.zeros(768)}, tmp_path / "other.safetensors")
    with pytest.raises(EditkitError, match="does not say what its pictures show; name it with --word"):
        load_learned(tmp_path / "other.safetensors")
    other = load_learned(tmp_path / "other.safetensors", "toy")
    assert (other.token, other.word, other.vectors) == ("<cat-toy>", "toy", 1)
    with pytest.raises(EditkitError, match=r"<cat-toy> has vectors of width 768, the tokens of model .* have 256"):
        editkit.erase(model, [], pictures=[other])
    with pytest.raises(EditkitError, match="exists and is no textual inversion of editkit"):
        save_learned(other, tmp_path / "two.safetensors", force=True)


def test_a_guide_beside_masks_and_a_concept_of_nothing_are_refused(model: EditableModel, tiny_sd: Path) -> None:
    vectors = random_vectors(tiny_sd, 1)
    masked = Learned("<x>", "boat", (vectors,), (vectors,))
    with pytest.raises(EditkitError, match="--guide: 'boat' was learned with masks and becomes what they leave"):
        editkit.erase(model, [], pictures=[masked], guides=["church"])
    with pytest.raises(EditkitError, match="--picture: two of them are called 'boat'"):
        editkit.erase(model, [], pictures=[masked, masked])
    with pytest.raises(EditkitError, match="no concept given"):
        editkit.erase(model, [])


def test_an_edit_by_pictures_is_not_made_again_from_its_record(model: EditableModel, tiny_sd: Path) -> None:
    plain = Options("uce", protect="none")
    made = editkit.erase(
        model, [], pictures=[Learned("<x>", "boat", (random_vectors(tiny_sd, 1),))], options=plain, checked=False
    )
    with pytest.raises(EditkitError, match="harden: 'boat' was erased by pictures, which the record does not hold"):
        editkit.harden(made, model, pictures=0)
    other = editkit.erase(model, ["church"], options=plain, checked=False)
    with pytest.raises(EditkitError, match="compose --fuse: 'boat' was erased by pictures"):
        editkit.fuse([made, other], model)


def test_the_command_line_inverts_a_folder_and_erases_what_it_shows(tiny_sd: Path, tmp_path: Path) -> None:
    pictures = saved(tmp_path / "pictures", a=noise(1)[0])
    inversion, edit = tmp_path / "boat.ti.safetensors", tmp_path / "e.safetensors"
    model = ("--model", tiny_sd)
    brief = ("--steps", "2", "--restarts", "1", "--held", "4", "--points", "1", "--device", "cpu")
    done = run("invert", pictures, "--word", "boat", *brief, *model, "--out", inversion, cwd=tmp_path)
    assert "token: <boat>, 1 restarts" in done
    done = run("erase", "--picture", inversion, "--guide", "church", "--method", "uce", "--protect", "none",
               "--unchecked", *model, "--out", edit, cwd=tmp_path)  # fmt: skip
    assert "boat → church" in done
    assert editkit.info(edit)["pictures"]["boat"]["token"] == "<boat>"


@pytest.mark.parametrize("table", [objects_as_markdown, pairs_as_markdown, style_as_markdown])
def test_the_page_shows_what_was_measured(table: Callable[[dict[str, Any]], str]) -> None:
    root = Path(__file__).parents[1]
    results = json.loads((root / "tests" / "bench" / "pictures.json").read_text(encoding="utf-8"))
    assert table(results) in (root / "docs" / "how-to" / "pictures.md").read_text(encoding="utf-8")
