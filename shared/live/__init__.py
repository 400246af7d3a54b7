"""The live page: a hub that shows every run below an outputs folder, from the files that the runs write anyway."""
