import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from wirebert.cli.commands import COMMANDS, EXTRAS
from wirebert.cli.main import build_parser, main

SEEN = """
import sys
from wirebert.cli.main import main
heavy = sys.argv.pop(1).split(",")
main()
print("imported:", *sorted(set(heavy) & set(sys.modules)))
"""


def test_commands_stand_in_the_order_of_the_help() -> None:
    actions = build_parser()._subparsers  # pyright: ignore[reportPrivateUsage]  # argparse has no public way
    assert actions is not None
    (commands,) = actions._group_actions  # pyright: ignore[reportPrivateUsage]
    assert list(COMMANDS) == list(commands.choices or ())


@pytest.mark.parametrize("place", sorted(set(COMMANDS.values())))
def test_every_command_has_its_function(place: str) -> None:
    module, _, name = place.partition(":")
    assert callable(getattr(import_module(module), name))


@pytest.mark.parametrize(("extra", "package"), [(extra, name) for extra in EXTRAS for name in EXTRAS[extra]])
def test_a_missing_package_of_an_extra_is_named_with_the_extra(
    extra: str, package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_options: object) -> None:
        raise ModuleNotFoundError(f"No module named '{package}.part'", name=f"{package}.part")

    monkeypatch.setattr("wirebert.cli.report_commands.report", fail)
    assert main(["report", "run"]) == 2
    message = f"wirebert: `wirebert report` needs {package}, which is not installed; "
    assert capsys.readouterr().err == f"{message}install it with `pip install 'wirebert[{extra}]'`\n"


def test_a_missing_module_of_ours_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_options: object) -> None:
        raise ModuleNotFoundError("No module named 'wirebert.gone'", name="wirebert.gone")

    monkeypatch.setattr("wirebert.cli.report_commands.report", fail)
    with pytest.raises(ModuleNotFoundError):
        main(["report", "run"])


@pytest.mark.slow
@pytest.mark.parametrize("command", ["inspect", "datasets"])
def test_commands_that_only_read_data_import_no_heavy_package(command: str, tmp_path: Path) -> None:
    path = tmp_path / "flows.csv"
    path.write_text("bytes,label\n1,benign\n2,dos\n", encoding="utf-8")
    arguments = [command, *([str(path)] if command == "inspect" else ["list"])]
    heavy = ",".join([*EXTRAS["train"], "tokenizers", "onnxruntime", "huggingface_hub", "pandas"])
    done = subprocess.run(
        [sys.executable, "-c", SEEN, heavy, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "imported:"
