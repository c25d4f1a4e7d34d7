"""One module per file format; each yields blocks of uninterpreted columns in bounded memory."""
