import json
import logging
import sys

import pytest

from wirebert.service.logs import LOG, JsonLines, json_logs


def test_what_happens_is_one_json_object_a_line(capsys: pytest.CaptureFixture[str]):
    with json_logs():
        LOG.info("request", extra={"fields": {"path": 'a"\n\x1b[31m'}})
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert (entry["event"], entry["level"], entry["path"]) == ("request", "info", 'a"\n\x1b[31m')
    assert "\x1b" not in line


def test_loggers_are_left_as_they_were():
    before = [(LOG.level, LOG.propagate, list(LOG.handlers))]
    with json_logs():
        pass
    assert [(LOG.level, LOG.propagate, list(LOG.handlers))] == before


def test_a_failure_has_its_traceback_in_its_line():
    try:
        raise ValueError("broken")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "failed", (), sys.exc_info())
    entry = json.loads(JsonLines().format(record))
    assert entry["traceback"].endswith("ValueError: broken")
