"""Transfer from runs that were made elsewhere: one analysis of every form, and refusals that help."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import leadline as ll
from leadline.cli.program import main
from leadline.transferring.transfers import from_rows
from test_transfer_invariants import rows as swept


def rows(drift=0.0, widths=(64, 256), rates=range(-6, 1), seeds=3, **change):
    """Log–log parabolas whose best rate moves by ``drift`` doublings a doubling of the width."""
    return [
        dict(width=w, lr=2.0**k, seed=s,
             loss=1 + (k + 3 - drift * (w // widths[0]).bit_length() + drift) ** 2 / 50 + s / 99) | change
        for w in widths for k in rates for s in range(seeds)
    ]  # fmt: skip


def renamed(table, **names):
    return [{names.get(k, k): v for k, v in r.items()} for r in table]


def same(a, b):
    """Two results with the same numbers, but for how losses were written and subtracted."""
    assert [x.verdict for x in a.axes] == [x.verdict for x in b.axes]
    for one, other in zip(a.axes, b.axes, strict=True):
        assert numbers(one) == pytest.approx(numbers(other), rel=1e-9, abs=1e-12, nan_ok=True)


def numbers(axis):
    return [
        v for s in axis.sizes for i in (s.lr, s.loss, s.at_base, s.regret, s.stable, axis.drift)
        for v in (i.value, i.low, i.high)
    ]  # fmt: skip


class Polars:
    """What a frame of polars has of what is read."""

    def __init__(self, table):
        self._data = {k: [r[k] for r in table] for k in table[0]}
        self.columns = list(self._data)

    def to_numpy(self):
        raise AssertionError("not needed")

    def __getitem__(self, name):
        return pd.Series(self._data[name])


def test_every_form_of_a_table_is_the_same_transfer(tmp_path):
    table = rows(drift=-0.5)
    expected = from_rows(table)
    frame = pd.DataFrame(table)
    frame.to_csv(tmp_path / "runs.csv", index=False)
    frame.to_csv(tmp_path / "runs.tsv", index=False, sep="\t")
    frame.to_csv(tmp_path / "runs.csv.gz", index=False)
    frame.to_json(tmp_path / "frame.json")
    frame.to_json(tmp_path / "runs.jsonl", orient="records", lines=True, double_precision=15)
    with gzip.open(tmp_path / "lines.jsonl.gz", "wt") as file:
        file.write("\n".join(json.dumps(r) for r in table) + "\n")
    (tmp_path / "transfer.json").write_text(expected.to_json())
    forms = [table, iter(table), frame, Polars(table), {k: frame[k].tolist() for k in frame}]
    files = ["runs.csv", "runs.tsv", "runs.csv.gz", "runs.jsonl", "lines.jsonl.gz", "transfer.json"]
    for form in (*forms, *(tmp_path / f for f in files)):
        same(ll.transfer_from(form), expected)
    # pandas writes ten digits there.
    assert ll.transfer_from(tmp_path / "frame.json").axes[0].verdict == "does not transfer"


@pytest.mark.parametrize(
    ("names", "note"),
    [
        (dict(width="n_embd", lr="learning_rate", loss="train/loss"), "width from 'n_embd'"),
        (dict(width="config.model.d_model", lr="config.lr.value"), "lr from 'config.lr.value'"),
        (dict(width="hiddenSize", seed="Random Seed", loss="Final Loss"), "loss from 'Final Loss'"),
        (dict(loss="val/loss"), "The table has no training loss: 'val/loss' is compared."),
    ],
)
def test_columns_are_recognised_by_their_names(names, note):
    result = ll.transfer_from(renamed(rows(), **names))
    same(result, from_rows(rows()))
    assert note in " ".join(result.notes)
    assert result.metric == ("test_loss" if "val" in names.get("loss", "") else "loss")


def test_rates_as_logarithms():
    table = [r | {"log2lr": np.log2(r["lr"])} for r in rows()]
    for r in table:
        del r["lr"]
    result = ll.transfer_from(table)
    same(result, from_rows(rows()))
    assert "lr from 'log2lr', to the base 2" in result.notes[0]
    tens = [r | {"log10_lr": np.log10(r["lr"])} for r in rows()]
    # Beside the rate itself it says the same; alone it is rounded, and rates that differ by that are one.
    same(ll.transfer_from(tens), from_rows(rows()))
    for r in tens:
        del r["lr"]
    assert len({s.lr.value for s in ll.transfer_from(tens).axes[0].sizes}) == 1


def test_tables_of_wandb():
    """The documented export: config and summary as dicts, also as text in CSV."""
    table = [
        dict(name=f"run-{i}", config=dict(n_embd=r["width"], lr=r["lr"], seed=r["seed"]),
             summary={"train/loss": r["loss"], "_step": 99, "_runtime": 1.5})
        for i, r in enumerate(rows(drift=-0.5))
    ]  # fmt: skip
    table[0]["summary"]["train/loss"] = float("nan")
    expected = rows(drift=-0.5)
    expected[0]["loss"] = np.inf
    for form in (table, pd.DataFrame(table), [r | {"config": str(r["config"])} for r in table]):
        if form is not table and isinstance(form, list):
            form = pd.DataFrame([r | {"summary": str(r["summary"])} for r in form])
        same(ll.transfer_from(form), from_rows(expected))


def test_runs_that_have_not_ended_are_left_out_and_told():
    table = [r | {"State": "finished"} for r in rows()]
    more = [r | {"State": "crashed", "loss": None} for r in rows(widths=(512,))]
    result = ll.transfer_from(table + more)
    same(result, from_rows(rows()))
    assert "21 runs that have not ended are left out (crashed)." in result.notes
    # One that crashed with an infinite loss diverged.
    table[6] |= dict(State="crashed", loss=float("inf"))
    assert ll.transfer_from(table).rows[6]["diverged"]


def test_a_chart_of_wandb_is_a_run_a_column(tmp_path):
    table = rows()
    lines = []
    for step in (1, 2, 3):
        line = {"Step": step}
        for r in table:
            name = f"width={r['width']},lr={r['lr']},seed={r['seed']} - train/loss"
            line |= {name: r["loss"] + 3 - step, f"{name}__MIN": 0.1, f"{name}__MAX": 9}
        lines.append(line)
    pd.DataFrame(lines).to_csv(tmp_path / "chart.csv", index=False)
    same(ll.transfer_from(tmp_path / "chart.csv"), from_rows(table))


def test_a_row_a_step_is_the_last_of_each_run(tmp_path):
    table = [r | {"step": k, "loss": r["loss"] + 3 - k} for r in rows() for k in (1, 2, 3)]
    result = ll.transfer_from(table[::-1])
    same(result, from_rows(rows()))
    assert "The table has 126 rows of 42 runs: the last step of each is compared." in result.notes
    # Lines without a training loss (of an evaluation, say) do not count as the last.
    same(
        ll.transfer_from([*table, *(r | {"step": 4, "loss": None} for r in rows())]),
        from_rows(rows()),
    )
    # A folder of tables, one a run, its settings in the name.
    for r in rows():
        path = tmp_path / f"w{r['width']}-lr{r['lr']}-s{r['seed']}.csv"
        losses = [dict(epoch=k, train_loss=r["loss"] + 3 - k) for k in (1, 2, 3)]
        pd.DataFrame(losses).to_csv(path, index=False)
    same(ll.transfer_from(tmp_path), from_rows(rows()))


def test_a_store_is_read(tmp_path):
    store, result = tmp_path / "store", None
    for _ in range(2):
        result = ll.transfer_from(store) if result else ll.transfer(
            ll.digits(classes=(0, 1), samples=16, test_samples=0), ll.residual_mlp(64, 1),
            widths=[16, 32], depths=[1], lrs=[1e-3, 1e-2, 1e-1], seeds=1, steps=2, store=store,
            executor="inline",
        )  # fmt: skip
        assert [s.size for s in result.axes[0].sizes] == [16, 32]
        assert {r["lr"] for r in result.rows} == {1e-3, 1e-2, 1e-1}


def test_what_holds_of_every_result():
    """The base's regret is 0; diverged runs; a grid that does not bracket says where to extend it."""
    table = rows(drift=-0.5)
    for r in table:
        if r["lr"] > 0.4:
            r["loss"] = float("nan") if r["seed"] else "diverged"
    result = ll.transfer_from(table)
    assert all(a.sizes[0].regret.value == 0 for a in result.axes)
    assert result.axes[0].sizes[1].stable.value == 0.25
    short = ll.transfer_from([r for r in table if r["lr"] > 0.1])
    assert (short.axes[0].verdict, short.exit_code) == ("undecided", 3)
    assert "extend lrs downwards, rates from 0.03125 to 1 by factors of 2" in short.axes[0].reason
    assert "rates from 0.03125 to 1 by factors of 2" in short.answer[0]
    assert "--" not in str(short)


def test_seeds_that_differ_from_run_to_run():
    table = [r | {"seed": 1000 * i} for i, r in enumerate(rows())]
    result = ll.transfer_from(table)
    same(result, from_rows(rows()))
    assert "Seeds differ from run to run" in result.notes[-1]
    words = [r | {"seed": "abc"[r["seed"]]} for r in rows()]
    same(ll.transfer_from(words), from_rows(rows()))


def test_what_changes_beside_the_rate_is_told():
    table = [
        r | {"batch_size": r["width"], "wd": r["lr"] / 10, "grad_norm": r["loss"]} for r in rows()
    ]
    size, rate = ll.transfer_from(table).notes
    assert size.startswith("'batch_size' takes 2 values (64, 256)")
    assert "the size together with it" in size
    assert rate.startswith("'wd' takes 7 values")
    assert "the rate together with it" in rate


def test_sizes_that_share_no_other_size():
    diagonal = [r | {"depth": r["width"] // 32} for r in rows()]
    with pytest.raises(
        ValueError, match="no two widths of 'these runs' are at one depth: give width 64 and"
    ):
        ll.transfer_from(diagonal)
    # Widths at depth 8 only, and one run besides: the widths are judged, and where is said.
    more = [r | {"depth": 8} for r in rows()] + [r | {"depth": 4} for r in rows(widths=(64,))]
    result = ll.transfer_from(more)
    assert [a.axis for a in result.axes] == ["width", "depth"]
    assert {
        "The width rows are of runs at depth 8.",
        "The depth rows are of runs at width 64.",
    } <= set(result.notes)


def without(name, table=None):
    return [{k: v for k, v in r.items() if k != name} for r in table or rows()]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (without("lr"), "no column of the learning rate .*--columns lr=NAME"),
        (without("width"), "no column of the width or the depth .*--columns width=NAME"),
        (without("loss"), "no column of the loss .*--columns loss=NAME"),
        ([r | {"learning_rate": r["lr"] / 2} for r in rows()],
         "'lr' and 'learning_rate' could both be the lr, and differ in row 0 .*--columns lr=lr"),
        ([r | {"train_loss": 1.0} for r in rows()], "'loss' and 'train_loss' could both be the loss"),
        (renamed(rows(), loss="accuracy", seed="s") , "no column of the loss"),
        (rows() + rows()[:1], "row 0 and row 42 are two runs with width=64, lr=0.015625, seed=0"),
        (rows(bs=1) + rows(bs=2), "differ in 'bs' .1, 2.: give the runs of one bs at a time"),
        (without("seed"), "row 0 and row 1 are two runs with .*give the seeds in a column seed"),
        (rows(widths=(64,)), "the runs hold one size"),
        (rows()[1:], "has no run with lr=0.015625, seed=0"),
        (rows(loss=-0.5), "'loss' is -0.5 in row 0: rates are compared by log loss"),
        (rows(loss=None), "column 'loss' is empty: fill it in"),
        ([rows()[0] | {"loss": None}, *rows()[1:]], "'loss' is empty in row 0: write nan if the"),
        (rows(lr=0), "'lr' is 0 in row 0: give a rate > 0"),
        (rows(width=1.5), "'width' is 1.5 in row 0: give a width as a whole number"),
        ([rows()[0] | {"seed": None}, *rows()[1:]], "'seed' is empty in row 0"),
        (rows(loss="low"), "'loss' is 'low' in row 0: give a number"),
        ([r | {"step": 9 - (r["lr"] == 0.5)} for r in rows()],
         "runs of one size end at different steps .step=8 in row 15, 9 in row 0."),
        ([], "has no rows"),
    ],
)  # fmt: skip
def test_refusals_name_the_remedy(table, message):
    with pytest.raises(ValueError, match=message):
        ll.transfer_from(table)


def test_remedies_work():
    table = [
        r | {"learning_rate": r["lr"] / 2, "trial": r["seed"], "bs": b}
        for b in (1, 2)
        for r in rows()
    ]
    same(ll.transfer_from(table, columns={"lr": "lr"}, where={"bs": 2}), from_rows(rows()))
    named = without("seed", table)
    same(
        ll.transfer_from(named, columns={"seed": "trial", "lr": "lr"}, where={"bs": ["1"]}),
        from_rows(rows()),
    )
    with pytest.raises(ValueError, match="is better when it is larger"):
        ll.transfer_from(renamed(rows(), loss="val_acc"), columns={"loss": "val_acc"})
    with pytest.raises(ValueError, match="columns='rate' is unknown"):
        ll.transfer_from(rows(), columns={"rate": "lr"})
    with pytest.raises(ValueError, match="where: no run has bs=3"):
        ll.transfer_from(table, where={"bs": 3})
    with pytest.raises(ValueError, match="axes='height' is unknown"):
        ll.transfer_from(rows(), axes=["height"])
    with pytest.raises(ValueError, match="schemes='mup' is unknown"):
        ll.transfer_from(rows(), ["mup"])


def run(*arguments):
    return CliRunner().invoke(main, ["transfer", *map(str, arguments)])


@pytest.mark.parametrize(
    ("drift", "rates", "code", "last"),
    [
        (0.0, range(-6, 1), 0, "Train every width up to 256 with 0.125: it costs at most 0.99 %"),
        (-0.5, range(-6, 1), 1, "The best rate moves with width: the base's 0.125 costs 1.9 % to"),
        (0.0, range(-3, 1), 3, "Among the rates tried 0.125 is the best at width 64; at width 256 it"),
    ],
)  # fmt: skip
def test_command_line(tmp_path, drift, rates, code, last):
    path, out = tmp_path / "runs.csv", tmp_path / "out"
    pd.DataFrame(renamed(rows(drift, rates=rates), loss="error")).to_csv(path, index=False)
    done = run(path, "--columns", "loss=error", "--out", out)
    assert done.exit_code == code, done.output
    assert last in done.stdout.split("\n\n")[-1]
    assert max(map(len, done.stdout.splitlines())) <= 100
    made = json.loads((out / "transfer.json").read_text())
    assert made["answer"][0].startswith(last)
    assert made["notes"] == ["Read: loss from 'error'."]
    assert last in (out / "transfer.html").read_text().replace("&#39;", "'")


def test_mistakes_on_the_command_line(tmp_path):
    pd.DataFrame(rows()).to_csv(tmp_path / "runs.csv", index=False)
    for arguments, message in (
        (["runs.csv", "--steps", "5"], "--steps is for training, and"),
        (["runs.csv", "--columns", "lr"], "columns='lr' is not NAME=VALUE"),
        (["runs.csv", "--where", "lr=3"], "no run has lr"),
        (["none.csv"], "does not exist"),
        (["."], "has no event files of TensorBoard and no tables"),
    ):
        (tmp_path / "empty").mkdir(exist_ok=True)
        name = tmp_path / ("empty" if arguments[0] == "." else arguments[0])
        done = run(name, *arguments[1:])
        assert (done.exit_code, done.output.count("\n")) == (2, 1), done.output
        assert message in done.output
    done = run("mlp", "--where", "lr=3")
    assert done.exit_code == 2
    assert "where='lr=3' is for finished runs" in done.output


def test_several_schemes_and_both_axes():
    table = [
        r | {"depth": 2, "scheme": s} for s, d in (("sp", -1.0), ("mup", 0.0)) for r in rows(d)
    ]
    result = ll.transfer_from(table)
    assert [a.verdict for a in result.axes] == ["does not transfer", "transfers"]
    assert [said.split()[1] for said in result.answer] == ["sp:", "mup:"]
    assert result.exit_code == 0
    assert ll.transfer_from(table, ["sp"]).exit_code == 1
    assert len(swept()) == len(rows())


def test_runs_that_name_no_scheme_are_not_called_leadlines():
    table = [{k: v for k, v in r.items() if k != "scheme"} for r in rows()]
    result = ll.transfer_from(table)
    assert {a.scheme for a in result.axes} == {"these runs"}
    assert str(result).startswith("these runs over ")
    assert "auto" not in str(result)


@pytest.mark.parametrize("name", ["lr", "width", "seed"])
def test_runs_that_failed_before_they_wrote_their_settings_are_left_out(name):
    table = [{**r, "state": "finished"} for r in rows()]
    failed = {**table[0], "state": "Crashed", name: "", "loss": ""}
    result = ll.transfer_from([*table, failed])
    same(result, from_rows(rows()))
    assert "1 run that has not ended is left out (crashed)." in result.notes
    with pytest.raises(ValueError, match=name):
        ll.transfer_from([*table, {**failed, "state": "finished"}])
