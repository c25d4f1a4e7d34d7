"""One module per file format; each yields raw blocks of bounded size."""
