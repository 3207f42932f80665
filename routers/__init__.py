"""One file per router, each with configs/router/<name>.yaml of the same name; that pair is all a new router needs."""
