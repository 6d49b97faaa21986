"""Reference implementations: one importable, typed module per mechanism, tasks beside them."""
