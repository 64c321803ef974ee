"""What happened (events), what is wanted (effects), and how both are kept."""
