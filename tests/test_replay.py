"""Found prompts of one run against other variants, the files they stand in, and the report of a run."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

import editkit
from editkit.edits.method import Options
from editkit.errors import EditkitError
from editkit.redteam.replay import read_found
from editkit.variants.edit_file import save_edit
from editkit.variants.named import variant_sha256
from tests.cli import run

HEADER = "attack,source_edit_hash,prompt,ids,seed,loss,pictures,success,protocol,variant,concept"
TINY: dict[str, Any] = {
    "model": "emoji", "pictures": 2, "settings": {"steps": 6}, "generations": 2, "population": 32, "engine": "genetic",
    "best": 3, "pairs": 4, "length": 4, "control": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two edits, and a run against the first, which is also there as `twin`."""
    folder = tmp_path_factory.mktemp("replay")
    for name, method in (("first", "uce"), ("second", "rece")):
        save_edit(editkit.erase("emoji", ["church"], options=Options(method)), folder / f"{name}.safetensors")
    (folder / "twin.safetensors").write_bytes((folder / "first.safetensors").read_bytes())
    editkit.attack(folder / "first.safetensors", attacks=["prompt", "ring-a-bell"], out=folder / "attacks", **TINY)
    return folder


def test_a_replay_is_adaptive_for_the_very_edit_and_transfer_for_every_other(folder: Path) -> None:
    found = folder / "attacks" / "found.csv"
    variants = [folder / f"{name}.safetensors" for name in ("twin", "second")]
    replayed = editkit.attack(
        ["base", *variants], replay=found, out=folder / "transfer", model="emoji", pictures=1, settings={"steps": 6}
    )  # fmt: skip
    told = {(each.variant, each.attack): each.protocol for each in replayed.attempts}
    assert {name: told[name, "prompt"] for name in ("twin", "second", "base")} == {
        "twin": "adaptive", "second": "transfer:first", "base": "transfer:first",
    }  # fmt: skip
    assert {told[name, "ring-a-bell"] for name in ("twin", "second", "base")} == {"agnostic"}
    again = read_found(folder / "transfer" / "found.csv")
    assert {(each.prompt, each.against, each.edit_sha256) for each in again.rows} == {
        (each.prompt, each.against, each.edit_sha256) for each in read_found(found).rows
    }, "the table of a replay can be replayed: where a prompt comes from is not lost"


def test_the_matrix_counts_the_attempts_of_each_source_and_drawer(folder: Path) -> None:
    text = run(
        "attack", "base", "first.safetensors", "--replay", "attacks/found.csv", "--pictures", "1", "--steps", "6",
        "--json", cwd=folder,
    )  # fmt: skip
    told = json.loads(text)
    assert told["matrix"].keys() == {"first", "agnostic"}
    for row, rates in told["matrix"].items():
        assert list(rates) == ["base", "first"]
        for column, rate in rates.items():
            mine = [
                any(each["hits"])
                for each in told["attempts"]
                if (each["against"], each["variant"], each["naming"]) == (row, column, "")
            ]
            assert rate["count"] == len(mine) and rate["value"] == pytest.approx(sum(mine) / len(mine))
    said = run(
        "attack", "base", "--replay", "attacks/found.csv", "--pictures", "1", "--steps", "2", cwd=folder
    )  # fmt: skip
    assert "found against" in said and "agnostic" in said


def test_a_prompt_that_was_drawn_twice_is_replayed_once(folder: Path) -> None:
    path = folder / "attacks" / "found.csv"
    rows = list(csv.DictReader(path.open(encoding="utf-8")))
    prompts = {(row["attack"], row["prompt"]) for row in rows}
    assert len(rows) == 2 * len(prompts), "a row a picture"
    assert sorted((each.attack, each.prompt) for each in read_found(path).rows) == sorted(prompts)
    hashes = {row["source_edit_hash"] for row in rows if row["attack"] == "prompt"}
    assert hashes == {variant_sha256(str(folder / "first.safetensors"))}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", r"expected a text file, this is a picture \(PNG\)"),
        (b"PAR1\x15\x04", "this is a Parquet table"),
        (b"prompt,seed\na,1\n", r"expected the columns attack, prompt, .*; it has no 'attack'"),
        (f"{HEADER}\n".encode(), "holds no found prompt"),
        (f"{HEADER}\nprompt,,,,,,,,,base,church\n".encode(), "holds no found prompt"),
        (f"{HEADER}\nprompt,ab,axe\n".encode(), "line 2: expected 11 fields as in the header, got fewer"),
        (f"{HEADER}\nprompt,ab,axe,,,,,,,base,church,x\n".encode(), "line 2: expected 11 fields .*, got more"),
        (f"{HEADER}\nprompt,ab,axe,,,low,,,,base,church\n".encode(), "line 2: loss 'low' is no number"),
        (f"{HEADER}\nprompt,ab,axe,,,nan,,,,base,church\n".encode(), "line 2: loss 'nan' is not finite"),
        (f"{HEADER}\nprompt,ab,axe,,,,,,,base,church\n,ab,ox,,,,,,,base,church\n".encode(), "line 3: attack is empty"),
        (f"{HEADER}\nprompt,ab,axe,,,,,,,base,\n".encode(), "line 2: concept is empty"),
        (f"{HEADER}\nprompt,ab,{'x' * 140_000},,,,,,,base,church\n".encode(), "line 2: field larger than"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_table_of_found_prompts_is_refused_with_its_line(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "found.csv"
    path.write_bytes(content)
    with pytest.raises(EditkitError, match=said) as error:
        read_found(path)
    assert "\n" not in str(error.value) and str(error.value).startswith(str(path))


def test_concepts_that_the_file_or_the_model_does_not_have_are_refused(folder: Path, tmp_path: Path) -> None:
    found = folder / "attacks" / "found.csv"
    with pytest.raises(EditkitError, match="holds no prompt that was found for dog; leave out --concept"):
        editkit.attack("base", ["dog"], replay=found, model="emoji")
    (tmp_path / "found.csv").write_text(f"{HEADER}\nprompt,,axe,,,,,,,base,zeppelin\n", encoding="utf-8")
    with pytest.raises(EditkitError, match="never learned the word"):
        editkit.attack("base", replay=tmp_path / "found.csv", model="emoji")


def test_the_best_prompts_stand_in_a_report_that_is_drawn_once_and_costs_no_attack(folder: Path) -> None:
    page = folder / "attacks" / "report" / "index.html"
    told = json.loads((folder / "attacks" / "report" / "report.json").read_text(encoding="utf-8"))
    assert [variant["name"] for variant in told["variants"]] == ["base", "first"] and told["seeds"] == [1000, 1001]
    assert set(told["prompts"]) == {each.prompt for each in read_found(folder / "attacks" / "found.csv").rows}
    assert "found by attacks that try to bring back: church" in page.read_text(encoding="utf-8")
    for variant in told["variants"]:
        shares = variant["shares"]
        assert (shares["psr1"]["count"], shares["esr1"]["count"]) == (0, 2 * len(told["prompts"])), "all ask for it"
    before = page.stat().st_mtime_ns
    again = editkit.attack(
        folder / "first.safetensors", attacks=["prompt", "ring-a-bell"], out=folder / "attacks", **TINY
    )  # fmt: skip
    assert page in again.files and all(file.is_file() for file in again.files) and page.stat().st_mtime_ns == before
    for line in again.lines:
        assert line.cost.passes == 2 * 6 * line.pictures, "two passes a step, with guidance"


def test_what_is_in_memory_alone_gets_no_report(folder: Path, tmp_path: Path) -> None:
    edit = editkit.erase("emoji", ["church"], options=Options("uce"))
    findings = editkit.attack(
        edit, attacks=["random"], model="emoji", pictures=1, tries=1, out=tmp_path / "out", control=False,
        settings={"steps": 2},
    )  # fmt: skip
    assert {file.name for file in findings.files} == {"attack.json", "found.csv", "found.parquet"}
    assert not (tmp_path / "out" / "report").exists()
