"""Tables of finished runs: columns from frames, dicts and files, and which column means what.

- ``columns``: the one type, and what becomes of frames, dicts and dicts inside of cells.
- ``files``: CSV, JSON, JSON lines, parquet, each also as .gz.
- ``exports``: tables that are one run a column or one run a file (W&B, TensorBoard).
- ``events``: TensorBoard's event files.
- ``tables``: as plain text and as CSV.
- ``names``: width, depth, lr, loss, seed, … by the names that people give them.
"""
