"""Which column is the width, the rate, the loss: by the names that people and their tools use."""

from __future__ import annotations

import re
from collections.abc import Mapping

ROLES: Mapping[str, tuple[str, ...]] = {
    role: tuple(names.split())
    for role, names in {
        "width": "width n_embd n_embed d_model dim_model model_dim hidden_size hidden_dim hidden_width "
        "hidden embed_dim emb_dim embedding_dim embedding_size d_embed n_hidden dim d_hidden",
        "depth": "depth n_layer n_layers num_layers num_hidden_layers num_layer layers n_blocks "
        "num_blocks blocks nlayers",
        "lr": "lr learning_rate base_lr max_lr peak_lr lr0 init_lr initial_lr eta",
        "log2_lr": "log2_lr log2lr lr_log2 log2_learning_rate",
        "log10_lr": "log10_lr log10lr lr_log10 log10_learning_rate",
        "loss": "loss train_loss training_loss loss_train final_loss final_train_loss "
        "train_final_loss train_loss_final train_loss_epoch loss_training",
        "test_loss": "test_loss val_loss valid_loss validation_loss eval_loss dev_loss loss_val "
        "loss_valid loss_validation loss_eval loss_test final_val_loss final_test_loss "
        "final_eval_loss val_loss_final val_loss_epoch final_validation_loss",
        "seed": "seed random_seed rng_seed init_seed torch_seed manual_seed replicate",
        "scheme": "scheme parametrization parameterization",
        "step": "step global_step train_global_step iter iteration it epoch train_epoch last_step",
        "state": "state status run_state",
        "diverged": "diverged is_diverged has_diverged",
        "stopped": "stopped",
        "run": "run run_id run_name name id trial_id experiment",
    }.items()
}
"""Names of columns by what they are, the first ones before the later ones."""

AXES: Mapping[str, tuple[str, ...]] = {
    "width": ROLES["width"],
    "depth": ROLES["depth"],
    **{
        role: tuple(names.split())
        for role, names in {
            "parameters": "parameters params n_params num_params nparams num_parameters n_parameters "
            "total_params total_parameters non_embedding_params non_embedding_parameters model_size "
            "model_params param_count parameter_count params_count trainable_params",
            "tokens": "tokens n_tokens num_tokens ntokens train_tokens training_tokens total_tokens "
            "tokens_seen token_count dataset_tokens n_train_tokens num_train_tokens",
            "samples": "samples n_samples num_samples train_samples training_samples samples_seen "
            "examples num_examples train_examples dataset_size data_size images",
            "steps": "steps max_steps num_steps total_steps train_steps num_train_steps max_iters "
            "num_iterations iterations n_steps training_steps",
            "flops": "flops flop compute total_flops train_flops training_flops num_flops flops_total "
            "training_compute train_compute flos total_flos",
            "batch": "batch_size batch bs global_batch_size train_batch_size total_batch_size",
        }.items()
    },
}
"""What losses are fitted against, by the names that columns have."""

LETTERS = {"N": "parameters", "D": "tokens", "C": "flops", "L": "loss"}
"""The field's letters; capital ones alone."""

UNITS = {"k": 1e3, "thousand": 1e3, "m": 1e6, "mn": 1e6, "million": 1e6, "millions": 1e6, "b": 1e9,
         "bn": 1e9, "billion": 1e9, "billions": 1e9, "g": 1e9, "t": 1e12, "tn": 1e12, "trillion": 1e12,
         "trillions": 1e12}  # fmt: skip
"""What a word at the end of a column's name multiplies its numbers by."""

SETTINGS = frozenset(
    "batch_size bs global_batch_size train_batch_size per_device_train_batch_size total_batch_size "
    "steps max_steps num_steps total_steps train_steps num_train_steps max_iters num_iterations "
    "epochs num_epochs max_epochs num_train_epochs optimizer optim optimizer_name opt "
    "weight_decay wd momentum beta1 beta2 betas eps epsilon grad_clip clip clip_grad max_grad_norm "
    "activation act dataset data dataset_name problem task dtype precision "
    "warmup warmup_steps warmup_iters warmup_ratio num_warmup_steps lr_scheduler lr_schedule "
    "lr_scheduler_type schedule scheduler decay_lr dropout context context_length seq_len "
    "sequence_length block_size vocab_size tokens samples model model_name model_type arch".split()
)
"""Settings of a training: where they vary, a comparison of rates is one of these too."""

GROUPS = frozenset(
    "config cfg hparams hparam hyperparameters hyperparams params parameters args model model_config "
    "optimizer optim opt training trainer summary metrics hp value final".split()
)
"""Words before a name that say where it is from."""

UNFINISHED = frozenset("running crashed failed killed preempted preempting pending queued".split())
"""States of runs that have not ended."""

UNNAMED = "these runs"
"""What stands for the scheme of runs that do not name one."""

LARGER_IS_BETTER = frozenset("acc accuracy top1 top5 bleu rouge f1 auc auroc reward score".split())
"""Words in the names of what is no loss."""


def plain_name(name: str) -> str:
    """Lower case, words joined by ``_``.

    >>> plain_name("config.learningRate.value"), plain_name("train/loss")
    ('config_learning_rate', 'train_loss')
    """
    text = name.strip().removesuffix(".value")
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text)
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def meanings(name: str) -> tuple[str, ...]:
    """A column's name, and what is left of it without the words that say where it is from.

    >>> meanings("config.model.n_embd")
    ('config_model_n_embd', 'model_n_embd', 'n_embd')
    """
    out = [plain_name(name)]
    words = out[0].split("_")
    while len(words) > 1 and words[0] in GROUPS:
        words = words[1:]
        out.append("_".join(words))
    return tuple(out)


def role_of(name: str) -> str | None:
    """What a column of this name is; None where its name does not say it.

    >>> role_of("config.n_embd"), role_of("eval/loss"), role_of("grad_norm")
    ('width', 'test_loss', None)
    """
    for meaning in meanings(name):
        for role, names in ROLES.items():
            if meaning in names:
                return role
    return None


def is_setting(name: str) -> bool:
    """Whether a column of this name is a setting of the training."""
    return any(m in SETTINGS for m in meanings(name))


def axis_of(name: str) -> tuple[str, float] | None:
    """Which axis a column of this name is, and what its numbers are multiplied by.

    >>> axis_of("config.n_embd"), axis_of("N"), axis_of("params (B)"), axis_of("loss")
    (('width', 1.0), ('parameters', 1.0), ('parameters', 1000000000.0), None)
    """
    if name.strip() in LETTERS:
        role = LETTERS[name.strip()]
        return (role, 1.0) if role in AXES else None
    for meaning in meanings(name):
        words, _, unit = meaning.rpartition("_")
        for role, names in AXES.items():
            if meaning in names:
                return role, 1.0
            if words in names and unit in UNITS and role not in ("width", "depth", "batch"):
                return role, UNITS[unit]
    return None
