"""A run told: charts, described once and drawn twice, tables and words."""
