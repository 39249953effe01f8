"""The study end to end at toy size: files, resuming, repeating, reading back, mistakes."""

import json
import pickle
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner

import leadline as ll
from disks import disk
from leadline.claims import cells, sources
from leadline.claims.cells import Cell
from leadline.claims.claim import NUMBERS, PRESETS, TOY, Setting, claim
from leadline.claims.measurement import outline, study
from leadline.claims.studies import load
from leadline.cli import main
from leadline.reporting.page import Drawing, Section
from leadline.store.file import read_with

VERDICTS = {"holds", "fails", "undecided"}


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """All ten claims at toy size, in this process."""
    return study(preset=TOY, out=tmp_path_factory.mktemp("toy"), workers=1)


def refused(*arguments):
    """The one line on stderr of a call that exits with 2."""
    result = CliRunner().invoke(main, ["study", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1
    return result.stderr


def test_ten_claims_end_to_end(toy):
    assert tuple(toy.verdicts) == NUMBERS == tuple(range(1, 11))
    assert toy.verdicts[9].headline.verdict in VERDICTS
    held = json.loads((toy.path / "verdicts.json").read_text())
    assert [row["claim"] for row in held["claims"]] == list(NUMBERS)
    for row in held["claims"]:
        assert {"verdict", "number", "value", "low", "high", "rule", "command"} <= set(row)
        assert row["verdict"] in VERDICTS
        for part in row["parts"]:
            assert part["verdict"] in VERDICTS
            assert part["key"].startswith(str(row["claim"]))
    assert held["study"]["preset"] == TOY
    for number in NUMBERS:
        assert (toy.path / "data" / f"claim-{number}.json").is_file()


def test_sections_say_everything(toy):
    for number, s in zip(NUMBERS, toy.sections, strict=True):
        assert isinstance(s, Section)
        assert s.anchor == f"claim-{number}"
        assert claim(number).sentence in s.sentence
        assert f"--claims {number} " in s.command
        assert any(p.startswith("The rule. ") for p in s.paragraphs)
        assert s.figures
        for f in s.figures:
            assert isinstance(f, Drawing)
            assert len(f.alt) > 100
            assert f.figure.data
        ((name, text),) = s.downloads
        assert name == f"claim-{number}.json"
        assert json.loads(text)["claim"] == number
    report = (toy.path / "report.html").read_text()
    assert "not decided at this size" in report


def test_the_report_begins_with_every_verdict_and_the_commands_that_decide(toy):
    page = toy.page()
    (answer,) = page.answer
    assert all(f"claim {number}" in answer for number in NUMBERS)
    undecided = [n for n in NUMBERS if toy.verdicts[n].headline.verdict == "undecided"]
    assert all(f"--claims {n} " in c for n, c in zip(undecided, page.commands, strict=True))
    assert all(c.startswith("leadline study ") and "--preset quick" in c for c in page.commands)


def test_read_back_is_the_same(toy):
    again = load(toy.path)
    assert again.verdicts == toy.verdicts
    assert repr(again) == repr(toy)
    held = json.loads((toy.path / "verdicts.json").read_text())["claims"]
    again.write()
    assert json.loads((toy.path / "verdicts.json").read_text())["claims"] == held


def test_same_seed_same_numbers(toy, tmp_path):
    for claims in ([3], [7], [9]):
        again = study(claims, preset=TOY, out=tmp_path / "again", workers=1)
    for number in (3, 7, 9):
        texts = [(f / "data" / f"claim-{number}.json").read_text() for f in (toy.path, again.path)]
        assert json.loads(texts[0])["data"] == json.loads(texts[1])["data"]
    assert tuple(again.data) == (3, 7, 9)
    other = study([7], preset=TOY, out=tmp_path / "other", seed=1, workers=1)
    assert other.data[7] != again.data[7]


def test_resumes_after_a_kill(tmp_path, monkeypatch):
    """Ten cells are done when it dies; the same call measures the rest, another one nothing."""
    alone, ran = cells._alone, []

    def counted(cell):
        if len(ran) == limit:
            raise KeyboardInterrupt
        ran.append(cell)
        return alone(cell)

    monkeypatch.setattr(cells, "_alone", counted)
    how = dict(claims=[3], preset=TOY, out=tmp_path, workers=1)
    limit = 10
    with pytest.raises(KeyboardInterrupt):
        study(**how)
    assert not (tmp_path / "verdicts.json").exists()
    limit, total = 10**9, outline([3], preset=TOY).cells
    first = study(**how)
    assert len(ran) == total
    assert len({json.dumps(c.spec()) for c in ran}) == total
    second = study(**how)
    assert len(ran) == total
    assert second.verdicts == first.verdicts
    study(**how, resume=False)
    assert len(ran) == 2 * total


def count(db):
    return db.execute("SELECT runs FROM counts").fetchone()


def test_resumes_after_sigkill(tmp_path):
    """Killed without a word after its third cell; what was stored is not measured again."""
    command = [sys.executable, "-m", "leadline", "study", "--claims", "3", "--preset", TOY]
    command += ["--out", str(tmp_path), "--workers", "1", "--quiet"]
    victim = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    file = tmp_path / "store" / "runs.sqlite"
    deadline = time.monotonic() + 60
    while not file.exists() or read_with(file, count)[0] < 3:
        assert victim.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    victim.kill()
    victim.wait()
    before = outline([3], preset=TOY, out=tmp_path)
    assert 3 <= before.stored < before.cells
    seen = []
    done = study([3], preset=TOY, out=tmp_path, workers=1, progress=lambda **kw: seen.append(kw))
    assert seen[0]["step"] == before.stored
    assert done.verdicts[3].headline.verdict in VERDICTS


def test_a_failed_cell_keeps_the_others(tmp_path, monkeypatch):
    alone = cells._alone

    def one_fails(cell):
        if cell.kind == "train":
            raise ValueError("planted")
        return alone(cell)

    monkeypatch.setattr(cells, "_alone", one_fails)
    with pytest.raises(RuntimeError, match=r"2 of \d+ cells failed, the first: train .*planted"):
        study([3], preset=TOY, out=tmp_path, workers=1)
    done = outline([3], preset=TOY, out=tmp_path)
    assert done.cells - done.stored == 2


def test_processes_give_the_same(toy, tmp_path):
    made = study([7], preset=TOY, out=tmp_path, workers=2)
    here = json.loads(json.dumps(toy.to_json()))["claims"][6]
    there = made.to_json()["claims"][0]
    assert here["value"] == there["value"]


def test_progress_counts_cells(tmp_path):
    seen = []
    study(4, preset=TOY, out=tmp_path, workers=1, progress=lambda **kw: seen.append(kw))
    assert [s["step"] for s in seen] == list(range(len(seen)))
    assert seen[-1]["step"] == seen[-1]["steps"] == outline([4], preset=TOY).cells


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_consistent(preset, monkeypatch, tmp_path):
    """Every cell of every preset can be named and sent; sizes fit what their verbs ask for."""
    if preset == "full":
        rng = np.random.default_rng(0)

        def like_cifar(source, pair, samples, test_samples, loss):
            labels = np.arange(samples + test_samples) % (2 if pair else 10)
            x = rng.standard_normal((samples + test_samples, 12))
            ends = (x[samples:], labels[samples:]) if test_samples else (None, None)
            return ll.arrays(
                x[:samples], labels[:samples], *ends, loss=loss, classes=range(2 if pair else 10)
            )

        monkeypatch.setattr(sources, "source_problem", like_cifar)
    source = "cifar10:none" if preset == "full" else "digits"
    plan = outline(preset=preset, problem=source, out=tmp_path)
    assert plan.stored == 0
    assert [line.claim for line in plan.lines] == list(NUMBERS)
    for number in (1, 3, 7, 9):
        for cell in claim(number).cells(Setting(preset, source)).values():
            assert pickle.loads(pickle.dumps(cell)).spec() == cell.spec()
            if getattr(cell.arguments.get("sgd"), "center", False):
                assert cell.arguments["width"] >= 4 * cell.problem.samples


def test_device_is_no_part_of_a_cell():
    p = ll.teacher(samples=4, dimension=2)
    specs = [Cell("solve", p, {"width": 8}, device=d).spec() for d in ("cpu", "cuda")]
    assert specs[0] == specs[1]


@pytest.mark.parametrize(
    ("how", "match"),
    [
        (dict(claims=[11]), r"claims=11 is unknown: did you mean 10\?"),
        (dict(claims=[0]), r"did you mean 1\?"),
        (dict(claims=[]), "is empty"),
        (dict(claims=["3"]), "give numbers 1 to 10"),
        (dict(preset="standart"), "did you mean 'standard'"),
        (dict(problem="digit"), "did you mean 'digits'"),
        (dict(problem="cifar10"), "give 'digits', 'cifar10:PATH' or 'mnist:FOLDER'"),
        (dict(problem="digits:3,8"), "give 'digits', 'cifar10:PATH' or 'mnist:FOLDER'"),
        (dict(problem="mnist:"), "give 'digits', 'cifar10:PATH' or 'mnist:FOLDER'"),
        (dict(problem="mnist:/nowhere"), "path='/nowhere' does not exist"),
        (dict(problem="mnist:/x?side=4,seed=1"), "sets 'seed', which is the study's: give side"),
        (dict(problem=7), "is not a text"),
        (dict(preset="full"), "give problem='mnist:FOLDER'"),
        (dict(seed=-1), "seed=-1 is too small"),
        (dict(workers=0), "workers=0 is too small"),
        (dict(device="no such"), "device='no such' cannot be used"),
    ],
)
def test_mistakes_come_before_any_work(how, match, tmp_path):
    with pytest.raises((ValueError, TypeError, OSError), match=match):
        study(**how, out=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_folder_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="give a folder"):
        study(3, preset=TOY, out=tmp_path / "file", workers=1)


def test_a_disk_too_small_for_the_report_costs_no_verdict(tmp_path):
    with disk(tmp_path / "disk", "3m") as small:
        with pytest.warns(ll.UnwrittenWarning, match=r"out=.*report\.html.*the disk is full"):
            done = study(4, preset=TOY, out=small, workers=1)
        assert done.verdicts[4].headline.verdict in VERDICTS
        assert load(small).verdicts == done.verdicts


def test_damaged_data_of_another_claim_are_refused_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "claim-5.json").write_text("{}")
    monkeypatch.setattr(cells, "measure", None)
    with pytest.raises(
        ValueError, match=r"claim-5\.json' is no data of claim 5 \(it has no checksum"
    ):
        study(4, preset=TOY, out=tmp_path)


def test_nothing_to_read_back(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no study"):
        load(tmp_path)
    (tmp_path / "verdicts.json").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        load(tmp_path)


def test_command_line(tmp_path):
    result = CliRunner().invoke(
        main, ["study", "--claims", "4", "--preset", TOY, "--out", str(tmp_path), "--workers", "1",
               "--json", "--quiet"],
        catch_exceptions=False,
    )  # fmt: skip
    assert result.exit_code == 0
    assert json.loads(result.stdout)["claims"][0]["claim"] == 4
    assert "report.html" in result.stderr


def test_dry_run(tmp_path):
    out = tmp_path / "none"
    result = CliRunner().invoke(
        main, ["study", "--claims", "3,7-8", "--dry-run", "--out", str(out)], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert "different cells, 0 of them stored" in result.stdout
    assert not out.exists()


def test_mistakes_on_the_command_line(tmp_path):
    assert "did you mean 10?" in refused("--claims", "12", "--out", tmp_path)
    assert "give such as 3,7" in refused("--claims", "three", "--out", tmp_path)
    assert "did you mean 'quick'" in refused("--preset", "quik", "--out", tmp_path)
