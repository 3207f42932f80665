"""Sources, tables, splits, encoders and audits: from upstream files to encoded outcomes."""
