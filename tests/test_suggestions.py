"""Of an unknown name, what exists is named; another name is suggested only where it is really near."""

from __future__ import annotations

import pytest

from chainrule.errors import nearest, unknown_value

MODELS = ["lenet", "mlp"]
MORE = ["lenet", "mlp", "mobilenet_v2", "resnet18", "resnet50", "simplecnn", "vgg11"]


@pytest.mark.parametrize("word", ["lenett", "lennet", "Lenet", "LENET", "lnet", "lenet5", "lenet-5", "elnet", "len"])
def test_a_misspelling_or_a_beginning_is_told_what_it_means(word: str) -> None:
    assert nearest(word, MODELS) == "lenet"


@pytest.mark.parametrize(
    "word", ["resnet18", "resnet", "alexnet", "mobilenet", "googlenet", "squeezenet", "vgg16", "net", "None", "l", "a", ""]
)
def test_another_name_that_shares_letters_is_told_what_exists(word: str) -> None:
    assert nearest(word, MODELS) is None
    assert str(unknown_value("model", word, MODELS)) == f"unknown model {word!r}: Known: lenet, mlp"


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("resnet34", None),  # another network, not a wrong key
        ("resnet101", None),
        ("resnet-18", "resnet18"),
        ("resent18", "resnet18"),
        ("rn18", "resnet18"),
        ("resnet", None),  # one of two
        ("mobilenet", "mobilenet_v2"),
        ("mobilenetv2", "mobilenet_v2"),
        ("simple_cnn", "simplecnn"),
        ("mpl", "mlp"),
    ],
)
def test_the_nearest_of_many(word: str, name: str | None) -> None:
    assert nearest(word, MORE) == name


def test_short_names_need_all_their_letters() -> None:
    assert nearest("h9", ["h1", "h2", "w"]) is None
    assert nearest("bf16", ["bfloat16", "float32", "float64"]) == "bfloat16"
    assert nearest("sdg", ["adam", "adamw", "rmsprop", "sgd"]) == "sgd"
