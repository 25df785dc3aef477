"""Other ways to do the same, each in one file, tuned as its authors would."""
