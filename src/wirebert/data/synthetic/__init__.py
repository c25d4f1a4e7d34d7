"""Generated traffic for the demo, the tests and runs at any scale."""

from wirebert.data.synthetic.traffic import generate, write_csv

__all__ = ["generate", "write_csv"]
