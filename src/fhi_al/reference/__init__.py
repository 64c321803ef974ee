"""The engines that compute the truth about a structure."""
