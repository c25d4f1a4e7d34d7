import subprocess
import sys
from dataclasses import fields

import pytest

from wirebert.cli.main import build_parser


def test_options_that_bound_requests_have_the_defaults_of_the_limits():
    from wirebert.service.limits import Limits
    from wirebert.service.server import ServerConfig

    options = vars(build_parser().parse_args(["serve", "model"]))
    for settings in (Limits(), ServerConfig()):
        for field in fields(settings):
            if field.name in options:
                assert options[field.name] == getattr(settings, field.name), field.name
    assert {"max_body_mb", "max_rows", "max_queue", "host", "port", "keys", "allow_anonymous"} <= set(options)


def test_only_this_machine_is_listened_to_by_default():
    assert build_parser().parse_args(["serve", "model"]).host == "127.0.0.1"


@pytest.mark.slow
def test_without_the_extra_one_sentence_says_what_to_install():
    program = """
import sys
sys.modules["uvicorn"] = None
from wirebert.cli.main import main
sys.exit(main(["serve", "model"]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "wirebert[serve]" in done.stderr
