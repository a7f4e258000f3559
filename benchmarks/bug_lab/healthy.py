"""Healthy trainings, which no rule should find anything in: the tutorial's stages, and every option of every group."""

from __future__ import annotations

from collections.abc import Iterator

from experiments.config import options, stages

MODELS = ("lab_mlp", "lab_cnn", "lab_norm")
USUAL = ("dataset=lab", "optim=sgd_momentum", "optim.lr=0.05", "loader.batch_size=32", "epochs=8")
DIGITS = ("dataset=lab", "model=mlp", *USUAL[1:])
GROUPS = ("model", "optim", "scheduler", "loss", "metrics", "transforms", "loader", "callbacks", "step")
SLOW = "optim.lr=0.01"
TOKENS = ("dataset.kind=tokens", "optim=adam", "optim.lr=0.003")
NO_METRICS = "metrics=none"
# What an option needs beside itself to train well.
NEEDS = {
    "model=autoencoder": ("loss=reconstruction", NO_METRICS, "optim=adam", "optim.lr=0.003"),
    "model=cnn": ("dataset=mnist_5k", SLOW),
    "model=cnn_adaptive": (SLOW,),
    "model=cnn_sequential": ("dataset=mnist_5k", SLOW),
    "model=logistic_tensors": ("optim=by_hand", "optim.lr=0.5", "loss=nll_by_hand"),
    "model=lstm": TOKENS,
    "model=transformer_small": TOKENS,
    "model=unet_small": ("dataset.kind=masks", "optim=adam", "optim.lr=0.003"),
    "optim=adam": ("optim.lr=0.003",),
    "optim=adamw": ("optim.lr=0.003",),
    "optim=by_hand": ("optim.lr=0.5",),
    "optim=sgd": ("optim.lr=0.5",),
    "optim=lbfgs": ("optim.lr=0.1", "loader.batch_size=256"),
    "loss=binary_cross_entropy": ("dataset.kind=several", NO_METRICS),
    "loss=mse": ("dataset.kind=reals", NO_METRICS, SLOW),
    "loss=nll_by_hand": ("model=logistic_tensors", "optim=by_hand", "optim.lr=0.5"),
    "loss=reconstruction": ("model=autoencoder", NO_METRICS, "optim=adam", "optim.lr=0.003"),
    "callbacks=tutorial_figures": ("dataset=mnist_5k", "model=logistic"),
    "callbacks=weight_images": ("model=logistic",),
}
OWN = {
    "examples: my_net": ("model=my_net",),
    "examples: stripes": ("dataset=stripes", "model=cnn_adaptive", SLOW),
    "examples: top_k": ("metrics=[accuracy,top_k]", "metrics.top_k.k=2"),
}


def trainings(seeds: int, stage_seeds: int, option_seeds: int) -> Iterator[tuple[str, tuple[str, ...], int]]:
    """Yield each one's name, its overrides, and with how many seeds it is trained."""
    for model in MODELS:
        yield model, (*USUAL, f"model={model}"), seeds
    for stage in stages.names():
        yield stage, (f"stage={stage}", "dataset=mnist_5k", "init_from=null"), stage_seeds
    for group in GROUPS:
        for option in options.names(group):
            choice = f"{group}={option}"
            if option not in (*MODELS, "lab_sum", "lab_kept", "lab_mean", "my_net"):
                usual = [each for each in DIGITS if not each.startswith(f"{group}=")]
                yield choice, (*usual, choice, *NEEDS.get(choice, ())), option_seeds
    for name, given in OWN.items():
        yield name, (*DIGITS, *given), option_seeds
