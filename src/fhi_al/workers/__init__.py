"""Who does the work, and how they are reached: channels, crew, layout."""
