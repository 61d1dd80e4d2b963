"""Numbers for what answers are worth: correlations with MOS, accuracy of choices, differences between policies."""
