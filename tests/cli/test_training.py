from wirebert.cli.arguments import DATA_OPTIONS
from wirebert.cli.main import build_parser


def test_training_and_comparing_describe_a_run_in_the_same_words():
    words = [
        "flows.csv",
        "--test",
        "a.csv",
        "--test",
        "b.csv",
        "--drop",
        "port",
        "--set",
        "model.size=mini",
        "--seed",
        "3",
    ]
    train, compare = (vars(build_parser().parse_args([command, *words])) for command in ("train", "compare"))
    assert train["test"] == ["a.csv", "b.csv"]
    shared = ("data", "test", "recipe", "overrides", "seed", *DATA_OPTIONS)
    assert {name: train[name] for name in shared} == {name: compare[name] for name in shared}
