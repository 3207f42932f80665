"""One file per source: an upstream format turned into Outcomes or Battles. configs/data/*.yaml names them."""
