import pytest

from wirebert.data.findings import Finding, Severity
from wirebert.errors import DataError
from wirebert.workflows.findings import require_no_warnings, tell


def finding(severity: Severity = "warning", *, is_accepted: bool = False) -> Finding:
    return Finding(
        code="unseen_values",
        severity=severity,
        column="proto",
        count=4,
        example="",
        message="proto is new; train again",
        is_accepted=is_accepted,
    )


def test_a_finding_is_told_once_with_its_code(capsys: pytest.CaptureFixture[str]):
    tell([finding(), finding(), finding("info"), finding(is_accepted=True)])
    assert capsys.readouterr().err == "wirebert: unseen_values: proto is new; train again\n"


def test_strict_fails_on_warnings_and_errors_only():
    require_no_warnings([finding("info"), finding(is_accepted=True)])
    require_no_warnings([finding()], strict=False)
    with pytest.raises(DataError, match=r"1 finding \(unseen_values:proto\); the first: proto is new"):
        require_no_warnings([finding(), finding("error")])
    with pytest.raises(DataError, match=r"set data.accepted_findings='unseen_values:proto' to accept it"):
        require_no_warnings([finding()], can_accept=True)
