"""Prompt files as they are found: every variant of columns, and every way in which a row can be wrong."""

from __future__ import annotations

import os
import tracemalloc
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editkit.drawing.generate import generate_folder
from editkit.drawing.prompt_file import PromptCase, PromptFile, read_prompts
from editkit.errors import EditkitError

DATA = Path(os.environ.get("EDITKIT_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
BESIDE = pytest.mark.skipif(not DATA.is_dir(), reason="the real prompt files are not beside this checkout")


def written(folder: Path, content: str, name: str = "p.csv") -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("prompt\na cat\n", PromptCase("0", "a cat")),
        ("text,image_id,seed\na cat,007,5\n", PromptCase("007", "a cat", 5)),
        (",case_number,prompt,evaluation_seed,artist\n0,3,a cat,9,Monet\n", PromptCase("3", "a cat", 9, "Monet")),
        ("Prompt,SD_Seed,label_str\na cat,12.0,dog\n", PromptCase("0", "a cat", 12, "dog")),
        ("case_number,prompt,evaluation_guidance\n1,a cat,7\n", PromptCase("1", "a cat", guidance=7.0)),
        ("prompt,sd_guidance_scale,sd_seed\na cat,,nan\n", PromptCase("0", "a cat")),
        ('\ufeffprompt,concept\n\n"a cat, and a\ndog",x\n', PromptCase("0", "a cat, and a\ndog", label="x")),
        ("a cat\na dog\n", PromptCase("0", "a cat")),
        ("12,a cat,77\n13,a dog,78\n", PromptCase("0", "a cat")),
    ],
)
@pytest.mark.filterwarnings("ignore:.*it has no header:UserWarning")
def test_variants_of_columns(content: str, expected: PromptCase, tmp_path: Path) -> None:
    assert next(iter(PromptFile.open(written(tmp_path, content)))) == expected


def test_tabs_and_plain_lines(tmp_path: Path) -> None:
    tabs = written(tmp_path, "prompt\tseed\na cat, black\t3\n", "p.tsv")
    lines = written(tmp_path, "a cat, black\n\na dog\n", "p.txt")
    assert read_prompts(tabs) == [PromptCase("0", "a cat, black", 3)]
    assert read_prompts(lines) == [PromptCase("0", "a cat, black"), PromptCase("1", "a dog")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ("prompt\n", "expected at least one prompt, found none"),
        ("prmpt,seed\na,1\n", "'prompt' or 'text', but the first line is 'prmpt,seed'; .*--columns prompt=prmpt"),
        ("description,seed\na,1\n", "the first line is 'description,seed'; .*--columns prompt=NAME"),
        ("a cat,by night\n", "the first line is 'a cat,by night'; .*--separator none, if every line is a prompt"),
        ("1,2\n", "the first line is '1,2'; say which it is: --columns"),
    ],
)
def test_files_without_prompts(content: str, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, content)
    with pytest.raises(EditkitError, match=message):
        PromptFile.open(path, skip_bad_rows=True)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",1,0", "the prompt is empty"),
        ("a cat, black,1,0", "more fields than the 3 of the first line; text with commas in it needs quotes"),
        ("a cat,1", "fewer fields than the 3 of the first line"),
        ("a cat,one,0", "expected a whole number as seed, got 'one'"),
        ("a cat,-1,0", r"expected a seed from 0 to 2\^63 - 1, got -1"),
        ("a cat,1,../x", "case number '../x' must name a file"),
        ("a dog,5,0", "case number 0 with this seed names another prompt on line 2"),
        ('"a cat" and,1,0', "its quotes do not fit"),
    ],
)
def test_bad_rows_are_named_and_skipped_on_demand(row: str, reason: str, tmp_path: Path) -> None:
    path = written(tmp_path, f"prompt,seed,case_number\nfirst,5,0\n{row}\nlast,6,9\n")
    with pytest.raises(EditkitError, match=rf"{path}, line 3: {reason}.*--skip-bad-rows"):
        PromptFile.open(path)
    with pytest.warns(UserWarning, match=rf"1 of 3 rows left out: {reason}.*\(line 3\)"):
        cases = read_prompts(path, skip_bad_rows=True)
    assert [case.prompt for case in cases] == ["first", "last"]


def test_an_open_quote_does_not_swallow_rows_in_silence(tmp_path: Path) -> None:
    path = written(tmp_path, 'prompt,class\na,b\nc,"d\ne,f\ng,h\n')
    with pytest.raises(EditkitError, match=r"line 3: its quotes do not fit: .*on lines 3 to 5"):
        PromptFile.open(path)


def test_numbers_stay_when_a_row_is_mended(tmp_path: Path) -> None:
    bad = written(tmp_path, "prompt,seed\na,1\nb,x\nc,3\n")
    with pytest.warns(UserWarning):
        assert [case.case_number for case in read_prompts(bad, skip_bad_rows=True)] == ["0", "2"]


def test_nothing_good_is_an_error_even_when_skipping(tmp_path: Path) -> None:
    with pytest.warns(UserWarning), pytest.raises(EditkitError, match="no good rows"):
        PromptFile.open(written(tmp_path, "prompt,seed\na,x\n"), skip_bad_rows=True)


def test_what_is_no_text_is_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes(b"prompt\n\xff\xfe\n")
    with pytest.raises(EditkitError, match=r"neither \(byte 0xff on line 2\); save it as plain text"):
        PromptFile.open(path)
    with pytest.raises(EditkitError, match="No such file"):
        PromptFile.open(tmp_path / "none.csv")


def test_thirty_thousand_rows_stay_on_the_disk(tmp_path: Path) -> None:
    rows = "".join(f"{n},a picture of thing number {n} beside another one,{n}\n" for n in range(30_000))
    file = PromptFile.open(written(tmp_path, f"case_number,prompt,seed\n{rows}"))
    tracemalloc.start()
    most = max(len(case.prompt) for case in file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(file) == 30_000 and most > 20
    assert peak < 16_000_000  # the marks that find two prompts of one name; the rows themselves would be three times it


@BESIDE
@pytest.mark.parametrize(
    ("name", "count", "labels"),
    [
        ("big_artist_prompts.csv", 100, 5),
        ("short_niche_art_prompts.csv", 100, 5),
        ("imagenette.csv", 5000, 10),
        ("validation_imagenet_prompts.csv", 100, 10),
        ("coco_30k_val.csv", 3000, 1),
    ],
)
def test_real_files(name: str, count: int, labels: int) -> None:
    cases = read_prompts(DATA / name)
    assert len(cases) == count and all(case.seed is not None for case in cases)
    assert len({case.label for case in cases}) == labels


@BESIDE
def test_the_file_with_76_bad_rows() -> None:
    path = DATA / "robust_imagenette.csv"
    with pytest.raises(EditkitError, match=r"line 7: more fields.*75 more of 100 rows are bad"):
        PromptFile.open(path)
    with pytest.warns(UserWarning, match="76 of 100 rows left out"):
        file = PromptFile.open(path, skip_bad_rows=True)
    assert len(file) == 24 and len(file.bad) == 76 == len(file.record["bad_rows"])


def test_generate_skips_bad_rows_and_counts_cut_prompts(tmp_path: Path) -> None:
    long = "church " * 60
    file = written(tmp_path, f"prompt,evaluation_seed\na church,1\na, b,1\na dog,2\n{long},3\n")
    with pytest.raises(EditkitError, match="line 3: more fields"):
        generate_folder("emoji", file, None, "0", tmp_path / "pictures", steps=2)
    with pytest.warns(UserWarning) as said:
        done = generate_folder("emoji", file, None, "0", tmp_path / "pictures", skip_bad_rows=True, steps=2)
    texts = [str(warning.message) for warning in said]
    assert done == (3, 0) and any("1 of 4 rows left out" in text for text in texts)
    assert any("longer than the 24 tokens of the text encoder: 1" in text for text in texts)
    assert sorted(path.name for path in (tmp_path / "pictures").glob("*.png")) == ["0_1.png", "2_2.png", "3_3.png"]


def test_a_rows_guidance_is_drawn_with(tmp_path: Path) -> None:
    file = written(tmp_path, "prompt,seed,guidance\na church,1,1\na church,1,6\na church,1,\n")
    generate_folder("emoji", file, None, "0", tmp_path / "own", steps=2)
    generate_folder("emoji", file, None, "0", tmp_path / "one", steps=2, guidance=6.0)
    own, alike = (
        [np.asarray(Image.open(tmp_path / name / f"{n}_1.png"), float) for n in range(3)] for name in ("own", "one")
    )
    for a, b in combinations(own, 2):
        assert np.abs(a - b).mean() > 1
    for picture in [*alike, own[1]]:  # a picture's place in its batch may round a value the other way
        assert np.abs(picture - alike[0]).mean() < 0.1
