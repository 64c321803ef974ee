"""Reports of runs and of models: charts, described once and drawn twice, tables, and words."""
