/* rate.pml: one source is rated into two shards while anything may fail. Protocol rules 2 to 4; the product is
 * rater/rate.go, and the skipping of positions in balance/lua/apply.lua.
 *
 * The world. A carrier topic of one partition with RECORDS records, some of them several to a message. RATES processes
 * who all believe that the partition is theirs: the last that joined the group is its member, the others are zombies
 * whose commits are refused, which they may not notice. Produces get lost, or arrive after their sender gave up; owners
 * die between any two steps. With BOOK, the number of each record moves to the other shard at some time, and the book
 * that says so is read by each process at its own speed. With REMADE, the topic is made anew under the same name.
 *
 * Records are 1..RECORDS and so are positions; 0 is "none". Each #ifdef takes one mechanism away; README.md lists the
 * mutants and what kills them.
 */
#ifndef RECORDS
#define RECORDS 3
#endif
#ifndef RATES
#define RATES 2                 /* processes who are alive at once */
#endif
#ifndef REMADE
#define REMADE 0                /* how often the topic is made anew: 0 or 1 */
#endif
#define PER_ROUND 2             /* records of one round */

/* Records 2 and 3 are one message. A commit can only say where a message begins. */
#define MESSAGE_OF(record) (record == 3 -> 2 : record)
#ifdef NO_IX
#define POSITION(record) MESSAGE_OF(record)
#else
#define POSITION(record) record
#endif
#define AT(topic_, index) (topic_ * (RECORDS + 1) + index)

byte topic;                     /* the id of the topic as it is now; ids never come back */
byte ws[(REMADE + 1) * 2];      /* by source and shard: the highest position seen */
byte rows[(REMADE + 1) * (RECORDS + 1)]; /* by topic and record: how often it was applied, over both shards */
byte committed = 1, committed_topic; /* what the group knows: the next record, and the id in the commit's metadata */
byte member;                    /* the process that joined last */
byte moved_numbers;             /* bit r: in which shard record r is at first */
bit calm;                       /* trouble is over for good */

/* A block that is still on its way, after its sender gave up. */
byte late_source, late_topic, late_prev, late_records;
bit late_shard;

/* The book: heartbeats at times 1..frontier, and one change after the heartbeat of change_at. */
#define TIMES 2
byte frontier, change_at, effect;
bit changed;
#define TIME_OF(record) (record == 1 -> 2 : (record == 2 -> 1 : 2))

/* The invariants, by their names in the protocol. They are no part of the state. */
hidden byte I4_no_shard_halts, I5_one_row_per_record, I10_no_record_vanishes;
hidden byte r;

/* A block arrives in entries[p], and the shard applies it: positions that it has seen are repeats (rule 4). The block
 * says of which source it is; which records are in it is what was really fetched. */
inline append_block(source, content, p, prev_, records) {
  d_step {
#ifndef NO_PREV
    I4_no_shard_halts = (prev_ <= ws[source * 2 + p]); assert(I4_no_shard_halts);
#endif
    r = 1;
    do
    :: r <= RECORDS ->
       if
#ifdef NO_WATERMARK
       :: (records >> r) & 1 ->
#else
       :: ((records >> r) & 1) && POSITION(r) > ws[source * 2 + p] ->
#endif
          ws[source * 2 + p] = POSITION(r);
          rows[AT(content, r)]++;
          I5_one_row_per_record = (rows[AT(content, r)] == 1); assert(I5_one_row_per_record)
       :: else
       fi;
       r++
    :: else -> break
    od
  }
}

/* What a process knows that has read so much of the book: in each round any beginning of it that suffices. */
#define KNOWS_CHANGE (changed && read > change_at)
#define ITS_FRONTIER (KNOWS_CHANGE -> read - 1 : read)
#ifdef NEWEST_OWNER
#define IS_MOVED(record) KNOWS_CHANGE
#else
#define IS_MOVED(record) (KNOWS_CHANGE && effect <= TIME_OF(record))
#endif
#if !defined(BOOK) || defined(NO_FRONTIER)
#define READY(record) true
#define CAN_BE_READY(record) true
#else
#define READY(record) (ITS_FRONTIER >= TIME_OF(record))
#define CAN_BE_READY(record) (frontier >= TIME_OF(record)) /* else its source waits */
#endif
#define SHARD_OF(record) (((moved_numbers >> record) & 1) ^ IS_MOVED(record))

/* The last record of a block. */
inline last_of(p) {
  r = RECORDS;
  do :: !((block[p] >> r) & 1) -> r-- :: else -> break od
}

inline begin_anew() {
  d_step { next = 0; end = 0; id = 0; fetched = 0; read = 0; prev[0] = 0; prev[1] = 0; block[0] = 0; block[1] = 0 }
}

/* A process: rule 3. What happens within one atomic is one call to a server, or none. */
proctype Rate(byte self) {
  byte next, end;               /* the next record to read, and the first that this round does not take */
  byte id, fetched;             /* the topic that it started on, and the one that the fetch was of */
  byte read;                    /* how much of the book it has read, in this round */
  byte prev[2];                 /* by shard: the last position that was acknowledged, 0 at the start */
  byte block[2];                /* by shard: the records of this round that are not acknowledged */
  bit p;

start:                          /* it joins the group, and begins where was committed */
  atomic {
    begin_anew();
    member = self; id = topic;
#ifdef COMMITTED_BY_NAME
    next = committed
#else
    next = (committed_topic == id -> committed : 1)
#endif
  }
round:
  if
  :: atomic { !calm -> begin_anew(); goto start }                       /* dead */
  :: atomic { topic != id && next > RECORDS -> begin_anew(); goto start }
#ifdef TOPIC_ID_BEFORE
  :: atomic { topic != id -> begin_anew(); goto start }
  :: atomic { topic == id && next <= RECORDS && CAN_BE_READY(next) -> goto fetch }
#else
  :: next <= RECORDS && CAN_BE_READY(next) -> goto fetch
#endif
  :: atomic { next > RECORDS && topic == id -> goto commit }
  fi;
fetch:
  atomic {
    fetched = topic; end = next;
#ifdef BOOK
    do
    :: read < frontier + changed -> read++
    :: READY(next) -> break
    od;
#endif
    do
    :: end <= RECORDS && end < next + PER_ROUND && READY(end) ->
       p = SHARD_OF(end); block[p] = block[p] | (1 << end); end++
    :: end > next -> break                                              /* also in the middle of a message */
    od;
    p = 0; read = 0
  }
#if REMADE > 0 && !defined(TOPIC_ID_BEFORE)
  atomic {                      /* asked after the fetch: ids never come back */
    if :: topic != id -> begin_anew(); goto start :: else fi
  }
#endif
#ifdef COMMITS_EARLY
  atomic { if :: member == self -> committed = MESSAGE_OF(end); committed_topic = id :: else fi }
#endif
write:                          /* all blocks at once, each again until acknowledged */
  if
  :: atomic { block[0] | block[1] ->
       if :: p = 0 :: p = 1 fi;
       if :: block[p] == 0 -> p = 1 - p :: else fi;
       append_block(id, fetched, p, prev[p], block[p]);
       if
       :: last_of(p); prev[p] = POSITION(r); block[p] = 0; p = 0; goto write /* acknowledged */
       :: !calm -> p = 0; goto write                                    /* appended, but who knows: again */
       fi }
  :: atomic { !calm && late_records == 0 && (block[0] | block[1]) ->    /* on its way: again */
       if :: p = 0 :: p = 1 fi;
       if :: block[p] == 0 -> p = 1 - p :: else fi;
       late_shard = p; late_source = id; late_topic = fetched; late_prev = prev[p]; late_records = block[p];
       p = 0; goto write }
#ifdef TWO_IN_FLIGHT
  :: atomic { !calm && (block[0] | block[1]) && end <= RECORDS -> /* the block after this one overtakes */
       p = SHARD_OF(end);
       if :: block[p] != 0 -> last_of(p) :: else -> r = prev[p] fi;
       append_block(id, fetched, p, r, (1 << end));
       p = 0; goto write }
#endif
  :: atomic { !calm -> begin_anew(); goto start }                       /* dead, or it ends because it cannot know */
  :: atomic { !(block[0] | block[1]) -> next = end; end = 0; fetched = 0 }
  fi;
commit:
  atomic {
    if
    :: member == self ->
#ifdef COMMITS_CUT_MESSAGE
       committed = (next == 3 -> 4 : next);
#else
       committed = MESSAGE_OF(next);                                    /* a message counts when all its records do */
#endif
       committed_topic = id
    :: !calm || next <= RECORDS -> skip                                 /* not yet: once a second is enough */
    :: member != self -> begin_anew(); if :: !calm -> goto start :: else -> goto gone fi /* refused: it is a zombie */
    :: member != self && !calm -> skip                                  /* refused, and it does not notice */
    fi;
    if
    :: next <= RECORDS || !calm || topic != id -> goto round
    :: else
    fi;
    /* Calm, and nothing left to do: no record of the topic as it is now may be missing. */
    r = 1;
    do
    :: r <= RECORDS ->
       I10_no_record_vanishes = (rows[AT(topic, r)] == 1); assert(I10_no_record_vanishes); r++
    :: else -> break
    od
  }
gone: skip
}

/* What the world does, until it stops. */
proctype Trouble() {
  do
  :: atomic { !calm && topic < REMADE -> topic++ }
  :: atomic { late_records != 0 -> append_block(late_source, late_topic, late_shard, late_prev, late_records);
       late_records = 0; late_source = 0; late_topic = 0; late_prev = 0; late_shard = 0 }
  :: atomic { !calm -> calm = 1 }
  :: atomic { calm && late_records == 0 -> break }
  od
}

/* The book: rule 2. A change takes effect at its wish, but never before what its readers may have gone by. */
proctype Book() {
  do
  :: atomic { frontier < TIMES -> frontier++ }
  :: atomic { !changed ->
       change_at = frontier;
       if :: effect = 0 :: effect = 1 :: effect = 2 :: effect = 3 fi;
#ifndef NO_CLAMP
       if :: effect <= frontier -> effect = frontier + 1 :: else fi;
#endif
       changed = 1 }
  :: atomic { frontier == TIMES && changed -> break }
  od
}

init {
  atomic {
    if :: moved_numbers = 0 :: moved_numbers = 4 :: moved_numbers = 8 :: moved_numbers = 12 fi;
#ifdef BOOK
    run Book();
#endif
    run Rate(1);
#if RATES > 1
    run Rate(2);
#endif
    run Trouble()
  }
}
