"""What satisfies the protocol."""

from wirebert.alerts.sinks import Sink
from wirebert.alerts.syslog import SyslogSettings, SyslogSink


def test_syslog_is_a_sink():
    sink: Sink = SyslogSink(SyslogSettings(host="siem"))
    sink.close()
