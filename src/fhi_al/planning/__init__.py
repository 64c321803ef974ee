"""What a run will cost, found out before it: `FHI_AL-plan`."""
