"""The committee of MACE models: building, predicting, training, exporting."""
