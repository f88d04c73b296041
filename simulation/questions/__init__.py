"""Questions about drives whose answers are known from the annotations."""
