"""Cards: what they say of an edit, whose results they take, and what is put on the Hub."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import editkit
from editkit.chaining.run import run as run_recipe
from editkit.edits.method import Options
from editkit.errors import EditkitError
from editkit.evaluation.statistics.intervals import Estimate
from editkit.publishing.loading import loading
from editkit.publishing.push import Push
from editkit.publishing.subject import read_subject
from editkit.variants.record import file_sha256
from editkit.variants.tuned_file import save_tuned
from tests.cli import run
from tests.test_docs import blocks, commands, typed_lines
from tests.test_tuned import random_tuned

OPTIONS = Options("uce", protect="none")


@pytest.fixture(scope="module")
def church(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("card") / "church.safetensors"
    editkit.save_edit(editkit.erase("emoji", ["church"], options=OPTIONS), path)
    return path


def measured(edit: Path, folder: Path, **changes: Any) -> Path:
    """A `results.json` as `evaluate` writes it, of the edit in a file."""
    record = editkit.info(edit)
    rate = {"value": 0.9, "low": 0.8, "high": 0.96, "count": 50, "clusters": 5}
    values = {"all": rate, "classes": {"dog": rate, "fish": {**rate, "value": 0.25}}}
    metric = {"higher_is_better": True, "is_rate": True, "variants": {"base": values, "church": values}}
    model = {"name": "emoji", "projections_sha256": record["projections_sha256"]}
    content = {
        "format_version": 1, "pictures": 50, "intervals": {"count": 5, "clusters": "seed"},
        "protocol": {
            "model": model, "suite": {"name": "emoji-objects"}, "split": "1", "detector": "judge", "erased": ["church"]
        },
        "variants": [{"name": "base", "sha256": None}, {"name": "church", "sha256": file_sha256(edit)}],
        "metrics": {"esr-1": metric, "psr-1": metric},
    }  # fmt: skip
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(content | changes))
    return folder


def attacked(edit: Path, folder: Path, **changes: Any) -> Path:
    """An `attack.json` as `attack` writes it: `p4d` brings it back, `prompt` does not, `embedding` drew nothing."""
    nothing, some, none = (
        Estimate(value, low, high, count, 1).as_dict()
        for value, low, high, count in ((0.0, 0.0, 0.2, 16), (0.25, 0.11, 0.48, 16), (0.0, 0.0, 0.0, 0))
    )
    lines = [
        {"variant": variant, "attack": attack, "changes": "tokens", "attempts": 16, "before": nothing, "all": rate,
         "rest": rate, "loss": 0.125}
        for variant in ("church", "base")
        for attack, rate in (("p4d", some), ("prompt", nothing), ("embedding", none))
    ]  # fmt: skip
    record = {
        "variants": {"church": file_sha256(edit), "base": None}, "concepts": {"church": []}, "judge": "judge",
        "budget": "quick", "replay": None, "projections_sha256": editkit.info(edit)["projections_sha256"],
    }  # fmt: skip
    folder.mkdir()
    (folder / "attack.json").write_text(json.dumps({"record": record, "lines": lines} | changes))
    return folder


def test_a_card_says_what_how_and_for_which_weights(church: Path, tmp_path: Path) -> None:
    made = editkit.card(church, out=tmp_path / "README.md")
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    record = editkit.info(church)
    assert text == made.text and "| church | nothing | – | 0 |" in text
    for said in (record["projections_sha256"], record["text_encoder_sha256"], file_sha256(church)):
        assert f"`{said}`" in text
    assert all(f"| `{name}` |" in text for name in record["options"])
    assert f"Recovery norm {record['figures']['recovery_norm']:.3g}" in text
    assert record["figures"]["worst_words"][0][0] in text
    with pytest.raises(EditkitError, match="is not overwritten unasked"):
        editkit.card(church, out=tmp_path / "README.md")


def test_what_was_not_measured_is_said_to_be_so(church: Path) -> None:
    text = editkit.card(church).text
    sections = dict(part.split("\n", 1) for part in text.split("\n## ")[1:])
    assert sections["Plain prompts"].strip() == sections["Under attack"].strip() == "Not measured."
    assert "(PSR): not measured" in sections["Other concepts"]
    assert "Attacks: not measured" in sections["Known leaks"]
    half = church.with_name("half.safetensors")
    editkit.compose([church], half, scale=0.5)
    text = editkit.card(half).text  # a scaled edit has no figures
    assert "Damage to the embeddings of other words: not measured" in text
    assert "Recovery floor, what no embedding brings back: not measured" in text and "0.5 of the way" in text


def test_rates_stand_with_their_intervals_and_the_unedited_models(church: Path, tmp_path: Path) -> None:
    text = editkit.card(church, "emoji", [measured(church, tmp_path / "r")], [attacked(church, tmp_path / "a")]).text
    assert "| esr-1 ↑ % | 90 (80 to 96) | 90 (80 to 96) |" in text
    assert "psr-1 on `emoji-objects`: 90 (80 to 96)" in text and "Worst: fish 25 (80 to 96)." in text
    assert "| p4d | tokens | 16 | 0 (0 to 20) | 25 (11 to 48) | 25 (11 to 48) | 25 (11 to 48) |" in text
    assert "`p4d` **brings it back** in 25 (11 to 48) % of 16 attempts" in text
    assert "`prompt` brought nothing back in 16 attempts: 0 (0 to 20) %" in text
    assert "`embedding`: whether it brings the concept back was not measured" in text


def test_results_of_another_edit_or_model_are_refused(church: Path, tmp_path: Path) -> None:
    dog = tmp_path / "dog.safetensors"
    editkit.save_edit(editkit.erase("emoji", ["dog"], options=OPTIONS), dog)
    results, attacks = measured(church, tmp_path / "r"), attacked(church, tmp_path / "a")
    for given in ({"results": [results]}, {"attacks": [attacks]}):
        with pytest.raises(EditkitError, match=rf"measured church \({file_sha256(church)[:12]}…\), and not dog"):
            editkit.card(dog, **given)  # pyright: ignore[reportArgumentType]
    content = json.loads((results / "results.json").read_text())
    content["protocol"]["model"]["projections_sha256"] = "0" * 64
    other = measured(church, tmp_path / "other", protocol=content["protocol"])
    with pytest.raises(EditkitError, match=r"in another model than it was made for \(projections_sha256 differs\)"):
        editkit.card(church, results=[other])
    (attacks / "attack.json").write_text(
        json.dumps({"record": json.loads((attacks / "attack.json").read_text())["record"]})
    )
    for place, says in (
        (attacks, "did not end"),
        (results, "cannot be read"),
        (results / "results.json", "other JSON"),
    ):
        with pytest.raises(EditkitError, match=says):
            editkit.card(church, attacks=[place])


def test_another_base_is_refused(church: Path, tiny_sd: Path) -> None:
    with pytest.raises(EditkitError, match=r"embeddings of width 512, the model has 256"):
        editkit.card(church, tiny_sd)


def test_the_metadata_are_the_hubs(church: Path, tiny_sd: Path, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    data = ModelCard(editkit.card(church).text).data.to_dict()
    assert (data["license"], data["library_name"], data["pipeline_tag"]) == ("unknown", "editkit", "text-to-image")
    assert {"editkit", "concept-erasure", "uce", "sd1"} == {*data["tags"]} and "base_model" not in data
    base = tmp_path / "org" / "base"
    shutil.copytree(tiny_sd, base)
    (base / "README.md").write_text("---\nlicense: other\nlicense_name: fair\nlicense_link: LICENSE.md\n---\n# Base\n")
    (base / "LICENSE.md").write_text("Be fair.")
    edit = editkit.erase(base, ["church"], ["a dog"], options=OPTIONS, checked=False)
    editkit.save_edit(edit, tmp_path / "here.safetensors")
    editkit.save_edit(replace(edit, record={**edit.record, "model": "org/base"}), tmp_path / "hub.safetensors")
    here, hub = (editkit.card(tmp_path / f"{name}.safetensors") for name in ("here", "hub"))
    data = ModelCard(here.text).data.to_dict()
    assert (data["license"], data["license_name"], data["license_link"]) == ("other", "fair", "LICENSE.md")
    assert "base_model" not in data and "Beside the base lie: LICENSE.md." in here.text
    data = ModelCard(hub.text).data.to_dict()
    assert (data["base_model"], data["base_model_relation"]) == ("org/base", "adapter")
    assert "huggingface.co/org/base" in hub.text


def test_a_licence_of_a_single_file_is_in_its_metadata(tmp_path: Path) -> None:
    from editkit.model.checkpoints.source import find
    from editkit.publishing.subject import licence_of
    from tests import ldm

    folder = ldm.save_folder("sd1", tmp_path / "folder")
    known = {"modelspec.license": "openrail"}
    file = ldm.save_single_file("sd1", folder, tmp_path / "a.safetensors", metadata=known)
    assert licence_of(find(file)).stated == {"license": "openrail"}
    assert not licence_of(find(folder)).stated


@pytest.mark.parametrize("repository", [None, "org/church"])
def test_what_a_card_says_to_type_can_be_typed(repository: str | None, church: Path, tmp_path: Path) -> None:
    page = tmp_path / "card.md"
    page.write_text(editkit.card(church, push=repository, dry_run=True).text, encoding="utf-8")
    lines = typed_lines(page)
    known = commands()
    assert {line.split()[1] for line in lines} == {"export", "verify"} and len(lines) == 4
    for line in lines:
        words = line.split()
        known[" ".join(words[:2])].make_context(line, words[2:])
    if repository is None:
        shutil.copy(church, tmp_path)
        for line in lines:  # the last verifies what the first exported
            run(*line.split()[1:], cwd=tmp_path)
    (code,) = blocks(page, "python")
    compile(code, "card", "exec")
    assert (f'hf_hub_download("{repository}", "church.safetensors")' in code) == (repository is not None)


def test_what_no_other_program_loads_is_not_promised(church: Path, tmp_path: Path) -> None:
    subject = read_subject(church)
    gate: dict[str, Any] = {"missed": [], "opened": {}, "untouched": {}}
    gated = "\n".join(loading(replace(subject, record={**subject.record, "gate": gate})))
    assert "editkit.gate(pipe" in gated and "```sh" not in gated
    whole = "\n".join(loading(replace(subject, is_low_rank=False)))
    assert "lora" not in whole.lower() and "--format diffusers" in whole
    pixart = "\n".join(loading(replace(subject, record={**subject.record, "family": "pixart"})))
    assert "kohya" not in pixart and "lora" not in pixart and "--format diffusers" in pixart
    flux = "\n".join(loading(replace(subject, record={**subject.record, "family": "flux1"})))
    assert "--format kohya" in flux and "--format lora" in flux
    single = "\n".join(loading(replace(subject, base="sd.safetensors", is_single_file=True)))
    assert "--format single-file" in single and "--format diffusers" not in single


@pytest.mark.parametrize("lora", [False, True])
def test_what_was_tuned_has_a_card(lora: bool, tiny_sd: Path, tmp_path: Path) -> None:
    from tests import ldm

    folder = ldm.save_folder("sd1", tmp_path / "base")
    save_tuned(random_tuned(folder, lora), tmp_path / "church-ap" / "tuned.safetensors")
    made = editkit.card(tmp_path / "church-ap", folder)
    assert made.text.count("# church-ap\n") == 1 and "trained by gradient steps" in made.text
    assert "not measured, it is of linear maps" in made.text
    assert ("--format lora" in made.text) == lora and "It is for this checkpoint alone." in made.text


def test_a_push_is_the_card_and_the_edit(church: Path) -> None:
    made = editkit.card(church, push="org/church", dry_run=True)
    assert made.push is not None and made.commit is None and made.push.repository == "org/church"
    card, edit = made.push.operations
    assert (card.path_in_repo, edit.path_in_repo) == ("README.md", "church.safetensors")
    assert card.upload_info.sha256 == sha256(made.text.encode()).digest()
    assert edit.upload_info.sha256.hex() == file_sha256(church) and edit.upload_info.size == church.stat().st_size
    with pytest.raises(EditkitError, match="--push church: expected the name of a repository, such as org/name"):
        editkit.card(church, push="church")


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub as a small commit asks for; it keeps what was asked."""

    asked: list[tuple[str, bytes]]
    status: int

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked.append((self.path, body))
        answers: dict[str, Any] = {
            "validate-yaml": {"errors": [], "warnings": []},
            "create": {"url": "https://huggingface.co/org/church"},
            "main": {"commitOid": "0" * 40, "commitUrl": "https://huggingface.co/org/church/commit/0"},
        }
        if "preupload" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            answers["main"] = {
                "files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
            }
        content = json.dumps(answers[self.path.split("/")[-1]]).encode()
        self.send_response(self.status if self.path.endswith("create") else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, type[Hub]]]:
    """A server on this machine in the Hub's place, and what it was asked."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    kind = type("Asked", (Hub,), {"asked": [], "status": 200})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", kind
    server.shutdown()


def test_a_push_makes_one_repository_and_one_commit(hub: tuple[str, type[Hub]], tmp_path: Path) -> None:
    (tmp_path / "church.safetensors").write_bytes(b"edit")
    address, asked = hub
    push = Push.of("org/church", "# A card\n", tmp_path / "church.safetensors")
    assert push.send(endpoint=address) == "https://huggingface.co/org/church/commit/0"
    paths = [path for path, _ in asked.asked]
    assert paths[0] == "/api/repos/create" and paths[-1] == "/api/models/org/church/commit/main"
    assert paths.count(paths[0]) == paths.count(paths[-1]) == 1
    lines = [json.loads(line) for line in asked.asked[-1][1].splitlines()]
    assert lines[0]["value"]["summary"] == "Add church.safetensors"
    assert [line["value"]["path"] for line in lines[1:]] == ["README.md", "church.safetensors"]


@pytest.mark.parametrize(
    ("status", "says"), [(401, "no such login"), (403, "may not write there"), (409, "is there already; --force")]
)
def test_what_the_hub_refuses_is_one_line(status: int, says: str, hub: tuple[str, type[Hub]], tmp_path: Path) -> None:
    (tmp_path / "church.safetensors").write_bytes(b"edit")
    address, asked = hub
    asked.status = status
    with pytest.raises(EditkitError, match=f"^--push org/church: .*{says}") as raised:
        Push.of("org/church", "# A card\n", tmp_path / "church.safetensors").send(endpoint=address)
    assert "\n" not in str(raised.value)


def test_without_a_network_a_push_says_so(church: Path, tmp_path: Path) -> None:
    said = run("card", church, "--push", "org/church", "--out", "README.md", cwd=tmp_path, code=1)
    assert said.startswith("error: --push org/church: the Hub did not take it") and said.count("\n") == 1
    assert (tmp_path / "README.md").is_file()  # the card is kept


def test_the_command(church: Path, tmp_path: Path) -> None:
    results, attacks = measured(church, tmp_path / "r"), attacked(church, tmp_path / "a")
    words = ("card", church, "--results", results, "--attacks", attacks)
    assert run(*words, cwd=tmp_path) == editkit.card(church, results=[results], attacks=[attacks]).text
    said = run(*words, "--out", "README.md", "--push", "org/church", "--dry-run", cwd=tmp_path)
    size = church.stat().st_size
    assert "card: README.md\norg/church/README.md: " in said
    assert f"org/church/church.safetensors: {size:,} bytes\n" in said
    assert "is not overwritten unasked" in run(*words, "--out", "README.md", cwd=tmp_path, code=1)


CHAIN = """
model = "emoji"
[stage.gone]
do = "erase"
concepts = ["church"]
method = "uce"
protect = "none"
[stage.attacked]
do = "attack"
variants = ["gone"]
attacks = ["embedding"]
pictures = 0
[stage.told]
do = "card"
edit = "gone"
attacks = ["attacked"]
[stage.whole]
do = "export"
edit = "gone"
format = "diffusers"
[stage.proved]
do = "verify"
edit = "gone"
exported = "whole"
"""


def test_a_recipe_ends_with_a_card_and_a_proof(tmp_path: Path) -> None:
    recipe = tmp_path / "chain.toml"
    recipe.write_text(CHAIN)
    done = run_recipe(recipe, tmp_path / "run")
    text = (tmp_path / "run" / "told" / "told" / "README.md").read_text(encoding="utf-8")
    assert done.finished and "| embedding |" in text and "Not measured." in text
    assert "told/told/README.md" in (tmp_path / "run" / "index.html").read_text(encoding="utf-8")
    proof = json.loads((tmp_path / "run" / "proved" / "proved" / "verify.json").read_text())
    assert (proof["answer"], proof["scope"]) == ("yes", "whole")
    told: list[str] = []
    recipe.write_text(CHAIN.replace("pictures = 0", "pictures = 0\nseed = 1"))
    run_recipe(recipe, tmp_path / "run", tell=told.append)
    assert [line.split()[1] for line in told if "done in" in line] == ["attacked:", "told:"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (('exported = "whole"', ""), r"exported: expected one stage of the kind export"),
        (('exported = "whole"', 'exported = "told"'), r"told: a stage that is no export \(card\)"),
        (('["attacked"]', '["gone"]'), r"gone: a stage that is no attack \(erase\), expected one that is"),
        (('["attacked"]', '["base"]'), r"'base': no such stage, variant or file"),
        (('edit = "gone"', 'edit = "attacked"'), r"attacked: a stage that makes no edit \(attack\)"),
        (('edit = "gone"', 'edit = "base"'), r"the unedited model has no card"),
        (('edit = "gone"', 'edit = "gone"\npush = "org/church"'), r"push: no such field"),
    ],
)
def test_a_card_of_what_is_none_is_told_before_anything_starts(
    change: tuple[str, str], says: str, tmp_path: Path
) -> None:
    (tmp_path / "chain.toml").write_text(CHAIN.replace(*change, 1))
    with pytest.raises(EditkitError, match=f"stage (told|proved).*: .*{says}"):
        run_recipe(tmp_path / "chain.toml", tmp_path / "run")
    assert not (tmp_path / "run").exists()
