#!jinja|yaml
# While the containers run: the share gets a nearly complete copy of each.

The share is nearly up to date:
  cloudstor.presynced:
    - failhard: true
