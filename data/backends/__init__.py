"""One file per way to ask a model: an endpoint, a local model, recorded answers. configs/backend/*.yaml names them."""
