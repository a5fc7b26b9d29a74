"""A plan of many tasks for all people: model, search and timeline."""
