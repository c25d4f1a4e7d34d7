# pandas for the type checker: anything. With its own types the check takes twice as long, and pyarrow's stubs, which
# name its DataFrame beside dictionaries of arrays, refuse half of these.
from typing import Any

def __getattr__(name: str) -> Any: ...
