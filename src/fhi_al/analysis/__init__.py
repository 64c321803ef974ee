"""The journal added up: times, costs, errors, histories."""
