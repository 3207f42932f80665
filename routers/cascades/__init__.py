"""One file per cascade, each with configs/cascade/<name>.yaml of the same name; that pair is all a new cascade needs."""
