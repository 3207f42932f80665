"""One file per signal, each with configs/signal/<name>.yaml of the same name; that pair is all a new signal needs."""
