"""Board constraints: only what resource declarations cannot say."""
