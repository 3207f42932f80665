"""One file per way to grade an answer. configs/grader/*.yaml names them."""
