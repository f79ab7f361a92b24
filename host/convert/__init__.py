"""From a checkpoint folder to a tape."""
