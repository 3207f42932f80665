"""Types, contracts, policy, artifacts and runs: what every other package builds on."""
