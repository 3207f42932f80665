"""One file per student, each with configs/student/<name>.yaml of the same name; that pair is all a new student needs."""
