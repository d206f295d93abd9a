"""The lids on what travels and what is kept, each with its reason. Full is an answer, not growth."""

# --- messages ---
FRAME_BYTES_MAX = 8 * 2**20  # a larger frame is dropped unread: 8 snapshot chunks, far above any honest batch
BATCH_MESSAGES_MAX = 4096  # one batch must not occupy a step for longer than a heartbeat
BATCH_BYTES_MAX = 2 * 2**20  # keeps a batch under FRAME_BYTES_MAX even when its last message is the largest allowed
MESSAGE_BYTES_MAX = 4 * 2**20  # one message or request body; larger ones are refused where they are made
OUTBOX_MESSAGES_MAX = 10_000  # waiting for one peer; beyond it the oldest is dropped and counted (send is at most once)
HELD_MESSAGES_MAX = 10_000  # kept back by hold and delay rules, for one link
NESTING_MAX = 100  # lists and dicts within each other; far below what exhausts a decoder's stack
COMMAND_BYTES_MAX = MESSAGE_BYTES_MAX - 1024  # a client's command travels inside AppendEntries
OUTBOX_BYTES_MAX = 32 * BATCH_BYTES_MAX  # waiting for one peer, too: one that is stopped must not fill the memory
PUBLISHED_FRAMES_MAX = 250  # kept for a subscriber that is stopped; a frame may hold two megabytes
DRAINED_FRAMES_MAX = 1000  # taken from one socket in one step, so that none starves the others ...
DRAINED_BYTES_MAX = 2 * BATCH_BYTES_MAX  # ... nor holds up the heartbeats, where frames are large

# --- Raft ---
APPEND_ENTRIES_MAX = 512  # entries in one AppendEntries: the floor benchmark's batch
APPEND_BYTES_MAX = 2**20
SNAPSHOT_CHUNK_BYTES = 2**20
LOG_UNCOMMITTED_MAX = 20_000  # a leader without a majority refuses more than this instead of growing
LOG_TRAILING_ENTRIES = 1_000  # kept behind a snapshot, so that a follower that is a little late needs no snapshot
LOG_COMPACT_ENTRIES = 10_000  # applied entries beyond the snapshot that trigger the next one
LOG_COMPACT_BYTES = 32 * 2**20  # or this many bytes of commands in the log, whichever comes first
LOG_UNCOMMITTED_BYTES_MAX = 64 * 2**20
STATE_BYTES_MAX = 256 * 2**20  # keys and values; a fuller key-value store rejects puts instead of outgrowing memory
READS_PENDING_MAX = 20_000
SESSIONS_MAX = 10_000  # the least recently used is evicted, and told so (thesis 6.3)
ANSWERS_BYTES_MAX = 256 * 2**20  # kept for retries, messages in flight among them; beyond it sessions are evicted, too
SESSION_TTL_S = 600.0  # log time without an operation after which a session ends (thesis 6.3)

# --- leases, locks and queues ---
LEASE_S_MAX = 12 * 3600.0  # of a lock, or of a message in flight (SQS's longest): what is held longer is forgotten
CLOCK_DRIFT_MAX = 2e-3  # of two clocks, seconds a second: twenty times what a quartz is allowed; leases are cut by it
WAIT_S_MAX = 3600.0  # for a lock or a message; whoever wants to wait longer asks again
CLAIMS_MAX = 64  # locks in one acquire
GRANTS_MAX = 100_000  # locks held or waited for at a time
WAITERS_MAX = 10_000  # sessions that wait, for locks or for messages: as many as there can be sessions
NAME_BYTES_MAX = 1024  # of locks, queues, keys of messages, producers
PRODUCERS_MAX = 100_000  # of all queues; their serials are kept for ever, so that no window ends deduplication
DELIVERIES_MAX = 1_000_000  # so many deliveries before a message is dead are as good as no limit

# --- clients ---
CLIENT_PENDING_MAX = 50_000  # operations of one process's clients in flight

# --- logs ---
TRACE_BYTES_MAX = 16 * 2**20  # then a trace begins anew, and the one before is kept: minutes of a busy node

# --- supervision ---
NAME_LENGTH_MAX = 64
STOP_PATIENCE_S = 1.0  # how long a node that is asked to stop may take to hand over
STOP_S_MAX = 3.0  # between asking it and ending it: a leader hands over within one second
NODES_MAX = 31  # all-to-all heartbeats and connections: n * (n - 1)
