"""Tables as people have them: columns, units, settings, kinds, trainings; malformed ones are refused."""

import gzip
import json

import numpy as np
import pytest

from leadline.forecasting.columns import kinds_of, together
from leadline.forecasting.reading import read_runs
from leadline.tabular.quantities import quantity

HEAD = "N,D,loss\n"
GOOD = [(1e8, 1e9, 3.5), (2e8, 1e9, 3.3), (4e8, 2e9, 3.0), (8e8, 4e9, 2.8)]


def text(rows=GOOD, head=HEAD):
    return head + "".join(",".join(f"{x:g}" for x in r) + "\n" for r in rows)


def file(tmp_path, content, name="runs.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# --- what is read ---


@pytest.mark.parametrize(
    ("head", "roles"),
    [
        ("N,D,loss", ("parameters", "tokens")),
        ("params,tokens,loss", ("parameters", "tokens")),
        ("num_params,train_tokens,val_loss", ("parameters", "tokens")),
        ("config.n_embd,config.n_layer,summary.train/loss", ("width", "depth")),
        ("model_size,samples,final_loss", ("parameters", "samples")),
    ],
)
def test_columns_are_known_by_their_names(tmp_path, head, roles):
    runs = read_runs(file(tmp_path, text(head=head + "\n")))
    assert tuple(runs.roles.values()) == roles
    assert runs.loss.tolist() == [3.5, 3.3, 3.0, 2.8]
    assert all(r in runs.read for r in roles)


def test_units_in_cells_and_in_names(tmp_path):
    cells = "params,tokens,loss\n100M,1B,3.5\n0.2B,1e9,3.3\n400M,2.0B,3.0\n800 M,4000M,2.8\n"
    runs = read_runs(file(tmp_path, cells))
    assert runs.sizes["params"].tolist() == [1e8, 2e8, 4e8, 8e8]
    assert runs.sizes["tokens"].tolist() == [1e9, 1e9, 2e9, 4e9]
    named = "params (M),tokens_B,loss\n100,1,3.5\n200,1,3.3\n400,2,3.0\n800,4,2.8\n"
    again = read_runs(file(tmp_path, named))
    assert again.sizes["parameters"] == pytest.approx(runs.sizes["params"])
    assert again.sizes["tokens_B"] == pytest.approx(runs.sizes["tokens"])


def test_marks_are_declared(tmp_path):
    cells = 'params,tokens,loss\n"100,000",10,"3.5"\n"200,000",20,"3.3"\n"400,000",30,"3.0"\n'
    assert read_runs(file(tmp_path, cells), thousands=",").sizes["params"][2] == 400_000
    other = 'params,tokens,loss\n1.000,10,"3,5"\n2.000,20,"3,3"\n4.000,30,"3,0"\n'
    runs = read_runs(file(tmp_path, other), thousands=".", decimal=",")
    assert runs.sizes["params"].tolist() == [1000, 2000, 4000]
    assert runs.loss.tolist() == [3.5, 3.3, 3.0]
    assert quantity("2^10") == 1024


@pytest.mark.parametrize(
    ("cell", "message", "marks"),
    [
        ("1.280.000", "(--thousands . --decimal ,)", dict(thousands=".", decimal=",")),
        ("1.280.000,0", "(--thousands . --decimal ,)", dict(thousands=".", decimal=",")),
        ("1,280,000", "thousands=',' (--thousands ,)", dict(thousands=",")),
        ("1,280,000.0", "thousands=',' (--thousands ,)", dict(thousands=",")),
        ("1 280 000", "thousands=' ' (--thousands ' ')", dict(thousands=" ")),
        ("1.280", "(--thousands , or --thousands . --decimal ,)", dict(thousands=".", decimal=",")),
    ],
)
def test_marks_are_read_as_the_refusal_says(cell, message, marks):
    """The remedy of the message, taken, reads the table."""
    rows = {"tokens": [cell, cell.replace("280", "560"), "640"], "loss": [3.0, 2.5, 2.0]}
    with pytest.raises(ValueError, match=r".") as error:
        read_runs(rows)
    assert message in str(error.value)
    first, second, _ = read_runs(rows, **marks).sizes["tokens"]
    assert first / second == pytest.approx(1280 / 1560)
    assert first in (1280, 1_280_000)


def test_columns_and_axes_by_the_names_they_are_recognised_by():
    rows = {"width": [10.0, 20, 40, 80], "depth": [5.0, 3, 9, 7], "loss": [4.0, 3, 2, 1.5]}
    told = read_runs(rows, columns={"N": "width", "D": "depth"}, axes=["N", "D"])
    assert dict(told.roles) == {"width": "parameters", "depth": "tokens"}
    same = read_runs(
        rows, columns={"parameters": "width", "n_tokens": "depth"}, axes=["params", "tokens"]
    )
    assert same.roles == told.roles
    with pytest.raises(TypeError, match="give a dict such as"):
        read_runs(rows, columns=["width"])


def test_the_group_may_be_one_of_the_columns():
    rows = [dict(zip("NDL", r, strict=True)) | {"job": i // 2} for i, r in enumerate(GOOD)]
    assert read_runs(rows, columns={"group": "job"}).groups.tolist() == [0, 0, 1, 1]


def test_forms_of_files(tmp_path):
    plain = read_runs(file(tmp_path, "# from a sweep\n" + text()))
    rows = [dict(zip("NDL", r, strict=True)) for r in GOOD]
    lines = "\n".join(map(json.dumps, rows))
    forms = [
        file(tmp_path, gzip.compress(text().encode()), "runs.csv.gz"),
        file(tmp_path, lines, "runs.jsonl"),
        rows,
    ]
    for form in forms:
        runs = read_runs(form)
        assert runs.loss.tolist() == plain.loss.tolist()
        assert runs.sizes["N"].tolist() == plain.sizes["N"].tolist()


def test_tokens_from_flops(tmp_path):
    rows = [(n, 6 * n * d, y) for n, d, y in GOOD]
    runs = read_runs(file(tmp_path, text(rows, "N,C,loss\n")))
    assert runs.sizes["D"] == pytest.approx([d for _, d, _ in GOOD], rel=1e-5)
    assert "taken as C/(6·N)" in runs.notes[0]
    # Flops alone are an axis; beside N and D they are a cost.
    alone = read_runs(file(tmp_path, text([(c, y) for _, c, y in rows], "compute,loss\n")))
    assert alone.axes == ("compute",)
    both = read_runs(
        file(tmp_path, text([(n, d, 6 * n * d, y) for n, d, y in GOOD], "N,D,C,loss\n"))
    )
    assert both.axes == ("N", "D")
    assert both.costs[0] == pytest.approx(6e17)


def test_the_best_rate_of_each_size_is_kept(tmp_path):
    rows = [
        (n, d, lr, y + 0.1 * abs(np.log2(lr / (1e7 / n)))) for n, d, y in GOOD
        for lr in (0.0125, 0.025, 0.05, 0.1)
    ]  # fmt: skip
    runs = read_runs(file(tmp_path, text(rows, "N,D,lr,loss\n")))
    assert runs.loss == pytest.approx([y for *_, y in GOOD])
    assert "the best of each size is kept, 4 of 16 runs" in runs.notes[0]
    assert "smallest or largest tried" in runs.notes[0]
    narrow = read_runs(file(tmp_path, text(rows, "N,D,lr,loss\n")), where={"lr": "0.1"})
    assert len(narrow) == 4


def test_kinds_are_refused_with_the_options(tmp_path):
    rows = [dict(N=n, D=d, dataset=k, loss=y + (k == "b")) for n, d, y in GOOD for k in "ab"]
    with pytest.raises(
        ValueError, match=r"'dataset' takes 2 values.*--where dataset=a.*--by dataset"
    ):
        read_runs(rows)
    assert len(read_runs(rows, where={"dataset": "b"})) == 4
    assert kinds_of(rows, "dataset", {}) == ["a", "b"]
    # A column of unknown meaning that decides the loss, too; one that does not is left alone.
    rows = [
        dict(N=n, D=d, corpus=k, loss=y + (k == "b"))
        for n, d, y in GOOD
        for k in "ab"
        for _ in "ss"
    ]
    with pytest.raises(ValueError, match="'corpus' takes 2 values"):
        read_runs(rows)
    r = np.random.default_rng(0)
    for row in rows:
        row["loss"] = 3 + 0.1 * r.standard_normal()
    assert len(read_runs(rows)) == 16


def test_axes_that_move_together():
    r = np.random.default_rng(0)
    w, d = np.exp(r.random((2, 30)) * 4)
    assert together({"w": w, "d": d}) is None
    assert together({"w": w, "d": d, "s": 7 * w**2}) == ("w", "s")
    assert together({"w": w, "d": d, "s": w * d})[1] == "s"
    runs = read_runs({"width": w, "depth": d, "steps": 9 * w, "loss": 2 + 1 / w})
    assert runs.axes == ("width", "depth")
    assert "'steps' moves with 'width'" in runs.notes[0]


def test_parameters_stand_for_width_and_depth():
    rows = [dict(width=w, depth=l, N=12 * w * w * l, D=d, loss=2 + 5 / w + 1 / l + 1 / d)
            for w in (64, 128, 256) for l in (2, 4) for d in (1, 2, 4)]  # fmt: skip
    assert read_runs(rows).axes == ("N", "D")
    assert read_runs(rows, axes=["width", "depth", "D"]).axes == ("width", "depth", "D")


def test_groups_and_diverged_runs(tmp_path):
    rows = "run,N,D,loss\na,1e8,1e9,3.5\na,1e8,2e9,3.2\nb,2e8,1e9,\nb,2e8,2e9,3.0\nc,4e8,1e9,diverged\n"
    runs = read_runs(file(tmp_path, rows), group="run")
    assert runs.groups.tolist() == [0, 0, 1]
    assert runs.grouped
    assert runs.diverged == 2
    assert not read_runs(file(tmp_path, rows)).grouped


# --- what is refused ---


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no rows"),
        (HEAD, "has no rows"),
        ("N;D;loss\n1;2;3\n", "is not separated by commas"),
        ("N,N,loss\n1,2,3\n", "names a column twice"),
        (HEAD + "1e8,1e9\n", "has 2 cells for 3 columns in line 2"),
        (HEAD + "1e8,1e9,3,4\n", "more cells than columns in line 2"),
        (HEAD + "big,1e9,3\n", "column 'N' is 'big' in line 2: give a number"),
        (HEAD + "1e8,1e9,3\n,1e9,3\n", "column 'N' has no finite number in line 3"),
        (HEAD + "-1,1e9,3\n", "column 'N' is -1 in line 2: give a size > 0"),
        (HEAD + "1e8,1e9,-3\n", "column 'loss' is -3 in line 2"),
        (HEAD + "1e8,1e9,5e-324\n", "which no training has"),
        (HEAD + '"1,280",1e9,3\n', "write it without marks, or say what they are"),
        ("width,depth,loss\n1.280,2,3\n2.560,4,2\n", "which is 1.28 or 1280: say which"),
        (HEAD + '1e8,1e9,"3,5"\n', "--thousands , or --decimal ,"),
        (HEAD + "1e8,1e9,nan\n2e8,1e9,nan\n", "all 2 runs diverged"),
        (HEAD + "1e8,1e9,3\n1e8,1e9,3.1\n", "has only one size"),
        ("a,b\n1,2\n", "has no column 'loss' (it has a, b)"),
        ("rank,loss\n1,2\n", "has no column of a size (it has rank, loss)"),
        ("N,D,accuracy\n1,2,3\n", "has no column 'loss'"),
        ("params,n_params,D,loss\n1e8,2e8,1e9,3\n", "could both be the parameters, and differ"),
        ("n_embd,d_model,depth,loss\n64,128,2,3\n", "could both be the width, and differ"),
        (b"\xff\xfe\x00bad", "is no CSV text file"),
        (b"SQLite format 3\x00", "is a database"),
        ("{broken", "is neither JSON nor JSON lines"),
    ],
)
def test_malformed_tables_are_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=r".") as error:
        read_runs(file(tmp_path, content))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (dict(columns={"parameters": "size"}), "columns['parameters']='size' is no column"),
        (dict(columns={"size": "N"}), "columns='size' is unknown"),
        (dict(axes=["rank"]), "axes='rank' is no column"),
        (dict(axes=[]), "axes=[] is empty"),
        (dict(where={"N": 5}), "where: no run has N=5"),
        (dict(group="run"), "group='run' is no column"),
        (dict(loss="nll"), "loss='nll' is no column"),
        (dict(thousands="x"), "thousands='x' is unknown"),
        (dict(thousands=","  , decimal=","), "is the decimal mark too"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(tmp_path, how, message):
    with pytest.raises(ValueError, match=r".") as error:
        read_runs(file(tmp_path, text()), **how)
    assert message in str(error.value)
