"""One file a backend: code that runs a kind of model. Named in ``catalogue.toml``; imported only in a pool's children."""
