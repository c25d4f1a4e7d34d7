"""`SENSOR_FORMATS`: all sensor formats. A new format is a module, a TOML file and one entry here."""

from functools import partial

from wirebert.data.sensors.argus import open_argus
from wirebert.data.sensors.canonical import sensor_table
from wirebert.data.sensors.nfdump import open_nfdump
from wirebert.data.sensors.sensor import SensorFormat
from wirebert.data.sensors.suricata import open_suricata
from wirebert.data.sensors.ton_iot import open_ton_iot
from wirebert.data.sensors.zeek import is_joined_log, open_zeek

SENSOR_FORMATS: dict[str, SensorFormat] = {
    "zeek": SensorFormat(
        name="zeek",
        open_log=open_zeek,
        table=partial(sensor_table, "zeek"),
        can_be_followed=True,
        is_joined_file=is_joined_log,
        suffixes=(".labeled",),
    ),
    "suricata": SensorFormat(
        name="suricata",
        open_log=open_suricata,
        table=partial(sensor_table, "suricata"),
        can_be_followed=True,
        computed_from_joined={"num_alerts": "alert"},
    ),
    "nfdump": SensorFormat(
        name="nfdump", open_log=open_nfdump, table=partial(sensor_table, "nfdump"), can_be_followed=False
    ),
    "argus": SensorFormat(
        name="argus",
        open_log=open_argus,
        table=partial(sensor_table, "argus"),
        can_be_followed=True,
        suffixes=(".binetflow",),
    ),
    "ton_iot": SensorFormat(
        name="ton_iot", open_log=open_ton_iot, table=partial(sensor_table, "ton_iot"), can_be_followed=False
    ),
}
"""Formats by name, in the order in which a file is tried."""
