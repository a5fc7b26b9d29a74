"""The best team for one task: model, search, conflicts and explanation."""
