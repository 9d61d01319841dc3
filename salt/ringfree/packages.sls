#!jinja|yaml
# Package updates come before the manifest: one that breaks a container stops the line before anything moves.
{%- set ringfree = salt['ringfree_settings.get']() %}

The migration is in the journal:
  cloudstor.begun:
    - failhard: true

Packages are up to date:
  vz.packages_updated:
    - node: {{ ringfree.packages.node | json }}
    - containers: {{ ringfree.packages.containers | json }}
    - failhard: true
