"""Tables of finished runs: TensorBoard's event files, and what names say."""

import base64
import zlib

import pytest

from leadline.tabular.events import last_values
from leadline.tabular.exports import from_folder, settings_of
from leadline.tabular.names import is_setting, role_of

# Written by torch.utils.tensorboard: train/loss 2.5 at step 0 and 1.5 at step 7, grad .25 as a tensor; and
# what add_hparams(dict(width=64, lr=0.125, optimizer="adamw", bias=True), {"hparam/final": 1.25}) writes.
SCALARS = zlib.decompress(
    base64.b64decode(
        "eNrzYICAf5M85nJaf893e3vwlqMUb1JRYmaenmtZal6JlVGQHpdOSWpecX5RUn5iUYpecWlubmJRpV55UWZJapFeKkhVfFpm"
        "Tmo8ROTxVOuHclBzb94RMuLcz1UANldLmEuQi6sEZLZ+Tn5xsSgDg4JDpe6ZKQpQ1ZpvVwZw3uWGqBZgx6L+gH11+lwHHaj6"
        "L+vOuHJu5IGrl+eS5WJJL0pMceLgYNRiYWBosPPi5uLkYi9OTsxJLCp+MyNLFwCE1Uz4"
    )
)
HPARAMS = zlib.decompress(
    base64.b64decode(
        "eNrzYICAf5M85nI+byh0e3vwlqMUb1JRYmaenmtZal6JlVGQHpdOSWpecX5RUn5iUYpecWlubmJRpV55UWZJapFeKkhVfFpm"
        "Tmo8RIRnu35KEdRcVVarJs7bkyDmaqVzpXKJxGcUJBYl5hbH66dWFKQWZeYCtXv5cnlzsUMlhByE7JQ4uVjLM1NKMhSYldi4"
        "mHKKgDQvF2d+QUlmbmZVapECoxIHF0tSZmKxArOWABefEA9Es35aZl5iTlfbmZNdUBes3V0ezrliMtQF9Vy1XDIIFxSnFhdn"
        "5ufFF5ckFpXEZ+al5XvFckUjXBIg5cfFD7JeiFMQYtwBey4hqNPgYgEOXIIQx8CFPthziSA5V4hdijUxJTG3fPt9d20bqMtO"
        "bF8cxHkd5jJDLn0uKUyXpealQNwlCHQI3F0sSkwcjHknnkxSgJql+XZlAOfUqVCzRLmEuVACRJSBYYF9C++vnwB6l5jX"
    )
)

HYPERPARAMETERS = {"width": 64.0, "lr": 0.125, "optimizer": "adamw", "bias": True}


def test_event_files(tmp_path):
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(SCALARS)
    assert last_values(path) == {"train/loss": 1.5, "grad": 0.25, "step": 7}
    # What a killed program left half-written ends the file.
    path.write_bytes(SCALARS[:-5])
    assert last_values(path) == {"train/loss": 1.5, "step": 7}
    path.write_bytes(HPARAMS)
    assert last_values(path) == HYPERPARAMETERS | {"hparam/final": 1.25, "step": 0}


@pytest.mark.parametrize("at", [3, 9, 60, 150, -2])
def test_damaged_event_files_are_refused(tmp_path, at):
    data = bytearray(SCALARS)
    data[at] ^= 4
    (tmp_path / "events").write_bytes(data)
    with pytest.raises(ValueError, match="is damaged: give another copy"):
        last_values(tmp_path / "events")


def test_hyperparameters_belong_to_the_folder_above(tmp_path):
    for name, run, data in (
        ("a", "", SCALARS), ("a", "1795666102.049226", HPARAMS), ("w32-lr1e-3-s2", "", SCALARS)
    ):  # fmt: skip
        folder = tmp_path / name / run
        folder.mkdir(parents=True)
        (folder / "events.out.tfevents.1").write_bytes(data)
    t = from_folder(tmp_path)
    rows = [{k: v[i] for k, v in t.columns.items() if v[i] is not None} for i in range(len(t))]
    scalars = {"train/loss": 1.5, "grad": 0.25, "step": 7}
    assert rows == [
        {"run": "a", "hparam/final": 1.25} | HYPERPARAMETERS | scalars,
        {"run": "w32-lr1e-3-s2", "width": 32.0, "lr": 0.001, "seed": 2.0} | scalars,
    ]
    assert t.row(1) == "the run 'w32-lr1e-3-s2'"


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("width=64,lr=0.001,seed=0", dict(width=64, lr=0.001, seed=0)),
        ("mlp_w128_d4_lr1e-3_s2", dict(width=128, depth=4, lr=0.001, seed=2)),
        ("n_embd256-n_layer8-lr2^-7", dict(width=256, depth=8, lr=2.0**-7)),
        ("sweep/lr_0.01/width_64", dict(lr=0.01, width=64)),
        ("log2lr-7 w32", dict(log2_lr=7, width=32)),
        ("pretty-name-17", {}),
        ("2024-05-01_run3", {}),
    ],
)
def test_settings_in_names(name, settings):
    assert settings_of(name) == settings


def test_names_of_columns():
    said = dict(
        width="n_embd config.hidden_size model.d_model.value hparams/width dModel",
        depth="n_layer num_hidden_layers config/numLayers",
        lr="learning_rate learning-rate max_lr optimizer.lr",
        loss="train/loss Loss summary.train_loss final_loss hparam/loss",
        test_loss="val/loss eval_loss validation_loss",
        step="_step global_step trainer/global_step epoch",
        seed="random_seed config.seed",
    )
    for role, names in said.items():
        assert {n: role_of(n) for n in names.split()} == dict.fromkeys(names.split(), role)
    # The rate that a schedule has come to is no setting; nor are these sizes.
    for name in (
        "train/learning_rate",
        "train/lr",
        "grad_norm",
        "train/accuracy",
        "n_head",
        "_runtime",
    ):
        assert role_of(name) is None
    assert is_setting("config.batch_size")
    assert not is_setting("width")
