# The worked example. Every key of the pillar `ringfree` is here; where a key is not marked REQUIRED, what stands here is
# its default and the line can be left out. `salt-run ringfree.preflight` names every fault with its key.
ringfree:
  # nodes: REQUIRED, see fleet.sls

  # How many nodes move at the same time, once the first one is done. 1 to 100.
  batch: 1

  # Seconds until the master first asks a node whether it still works on a step. 30 to 3600.
  timeout: 120

  monitoring:
    # The minion that runs the monitoring, and its services. Only those that ran before are started again afterwards.
    # Default: no host and no service, so nothing is silenced.
    host: mon001
    services: [nagios, shinken]
    # Seconds after which the monitoring host starts them again by itself, whatever became of the migration.
    expiry: 21600

  nfs:
    # REQUIRED: addresses of the two SANs, as the nodes reach them; they go to /etc/ringfree/nfsip.1 and nfsip.2.
    primary: 10.77.0.21
    secondary: 10.77.0.22
    # Which one is mounted; its address goes to /etc/ringfree/nfs.
    use: primary
    # Mount options. 'soft' is refused: it corrupts running containers when the SAN is slow (nfs(5)). Kernels of OpenVZ 6
    # know NFS 3 and 4.0; ploop containers need vers=3; nolock is right while one node at a time uses a container.
    options: vers=3,proto=tcp,hard,nolock,timeo=600,retrans=2
    # Seconds for each call that touches NFS. A hung SAN becomes a failure, not a silent wait.
    deadline: 60

  # The exports of the SAN and where a node mounts them. They go to /etc/ringfree/nfsvzstor, nfsvzroot and nfsvzconf.
  # The directories of the first two on the SAN have mode 0700: what containers hold is not for local users to walk.
  # {node} in an export is the node's minion id: with '/rf-images/vzconf/{node}' (in quotes) each node has a conf share of
  # its own. The directories must be there and be exported.
  # A mount hides what is below it, so that each one needs a directory of its own: nothing of the system (/etc, /usr, /var/lib,
  # /srv itself, ...), nothing of vz (/vz, /vz/private, /vz/root, ...), and none on another one. The conf share goes
  # where vzctl of each node reads its confs, and null leaves that to the node: where /etc/vz/conf leads, which is
  # /etc/sysconfig/vz-scripts with Red Hat's packages and /etc/vz/conf itself with Debian's; one fleet may have both. A
  # path here has to be that place on every node that gets this pillar: preflight refuses a node where it is not.
  shares:
    private: {export: /rf-images/pbx, mount: /vz/nfsprivate}
    root: {export: /rf-images/pbxroot, mount: /vz/nfsroot}
    # The conf share is run: root of a node that can write there has code run on all nodes that mount it. With
    # /rf-images/vzconf/{node} each node has a conf share of its own, which is safer. On a shared one, action scripts that
    # a node did not bring itself, and confs with commands, are refused unless their SHA-256 stands in scripts, such as
    # {vps.mount: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae}.
    conf: {export: /rf-images/vzconf, mount: null, scripts: {}}

  # How a node reaches the SAN for the copy. The key and the pinned host keys are files on the node; 'ringfree-san install'
  # on the SAN (README) lets the key in for that alone.
  ssh:
    user: root
    port: 22
    key: /etc/ringfree/ssh/id_ed25519
    known_hosts: /etc/ringfree/ssh/known_hosts
    # The pinned host keys can stand here instead; known_hosts is not used then. Address to public key, such as
    # {10.77.0.21: 'ssh-ed25519 AAAA...'}: the first two fields of /etc/ssh/ssh_host_ed25519_key.pub on the SAN.
    host_keys: {}
    cipher: aes128-gcm@openssh.com

  sync:
    # Containers that are copied at the same time, over one connection. 1 to 8.
    workers: 4
    # While containers run the copy is repeated until a pass takes less than `small` seconds, at most `passes` times.
    passes: 4
    small: 20
    # More deletions than this in one container's copy stop the migration.
    max_delete: 1000
    # Seconds without a byte from the SAN; and seconds for the copy of one container.
    timeout: 600
    deadline: 43200
    # What the verifying pass after the final copy compares: quick (size, time, owner, mode, links) or checksum (contents too).
    verify: quick
    # Whether a copy that is on the share already, and that nobody owns (made by hand), may be overwritten.
    adopt: false
    # Percent of room that must be left over on the SAN.
    spare: 5

  # Update packages of the node and of the running containers before they move: yum, dnf or apt-get, whichever is there.
  packages:
    node: true
    containers: true
    workers: 2
    deadline: 7200

  containers:
    # Usually per node: see node001.sls.
    priority: []
    exempt: {}
    # What a container had right before its stop it must have again once it is started: what is mounted in it, listeners,
    # addresses, routes, daemons. What is missing when `start:answer` is over counts like a service that does not answer:
    # the node goes back. Here stands what may be missing: a container (NAME, HOSTNAME or id; '*' for each) to things, as
    # the message names them, or with the stars of a shell, such as
    # {PBX: ['mount /mnt/usb', 'tcp *:8080'], '*': ['process collectd']}. 'salt node001 ringfree_fingerprint.look 101'
    # shows what counts.
    may_lack: {}
    # What must answer in every container before it counts as started: a command inside it, or a TCP port at its first
    # address; `expect` is a regular expression for the answer. A check that cannot be made counts as failed.
    checks:
      asterisk:
        exec: [asterisk, -rx, core show version]
        expect: '^Asterisk \S+'
      apache:
        port: 80
        send: "HEAD / HTTP/1.0\r\n\r\n"
        expect: '^HTTP/1\.[01] [1-5]\d\d'
      postfix:
        port: 25
        expect: '^220 '

  # Containers that are stopped at the same time; seconds for each (vzctl kills after STOP_TIMEOUT, 120 s by default).
  stop:
    workers: 8
    deadline: 300

  start:
    # Containers that are started at the same time, after the priority ones; seconds for each.
    workers: 4
    deadline: 300
    # Seconds until all services of started containers must answer.
    answer: 120
    # The load that is normal, for each CPU. Each start after the priority ones waits for it, and for the share (if it is
    # from there) to answer quickly, at most `pace` seconds; before the commit the load must be normal within `load_wait`
    # seconds.
    load_per_cpu: 4.0
    pace: 10
    load_wait: 600

  deadman:
    # Seconds from the first stop of a container after which a node that nobody has committed goes back to local storage by
    # itself, without the master and across a reboot. More than a node needs; 60 to 172800.
    seconds: 14400

  rollback:
    # What containers wrote on NFS: discard (the local copies of the stop start as they are; the list of changed files and
    # the copies on the SAN stay) or sync_back (copied to local storage first; what that replaces is kept beside it).
    data: discard
    # Seconds that a rollback, or the dead man's switch, waits for whatever still runs on the node, before it ends that.
    idle: 60

  # What 'salt-run state.orch cleanup' takes away on the nodes, once a migration is long done.
  cleanup:
    # Days that a container was on NFS, committed, before its local private area may be moved aside; and days that it is
    # kept there before it may be deleted.
    age: 14
    keep: 7
    # How many in a hundred of the local files the share's copy must still have.
    present: 90
    # Minutes within which a consent ('salt-run ringfree.consent node001') has to be used. 1 to 60.
    consent: 10

  # The copy of the SAN in use on the other one, for the day on which it dies ('salt-run state.orch failover').
  replication:
    # The node that makes it, for all nodes; none by default. Applied by 'salt "*" state.apply ringfree.replicated'.
    node: ''
    # Seconds from one copy to the next; a copy that takes longer delays the next one.
    every: 900
    # Who reads: the node, from its mounted shares (ssh to the other SAN is all it takes), or the SAN in use itself (san:
    # much faster; 'ringfree-san install' on both SANs, with `to` and with the other one's key: see README).
    from: node
    # Seconds; a failover to an older copy is refused, unless accept_age is said on its command line.
    max_age: 3600
    # More deletions than this in the copy of one container stop it all.
    max_delete: 10000
    # Seconds without a byte after which a copy is given up; and seconds for the whole of it.
    timeout: 60
    deadline: 43200

  highstate:
    # Whether a highstate brings up a committed node that booted while the SAN was away, as 'salt-run ringfree.bring_up'
    # does: mounts the shares, starts vz and the containers that were to start. Otherwise it only says so.
    bring_up: false

  # When nodes may move: local times of the master in quotes; the window may go over midnight. None by default. For one
  # night: salt-run state.orch migrate pillar='{"deadline": "04:30"}'. Before each part of each node there must be time
  # for the rest and for the way back, by what was measured on this fleet before; until every part was measured `reserve`
  # seconds stand for that. When the end passes in flight, the node goes back.
  window:
    start: ''
    end: ''
    reserve: 3600

  # Whether a node on which everything answers stays on NFS by itself (auto), or when an operator says 'salt-run
  # ringfree.commit node001' (manual). When nobody says so within confirm_within seconds, the node goes back.
  confirm: auto
  confirm_within: 3600

  # What the export cannot store and containers use, and you accept to lose: acl, xattr, capability.
  accept: []
