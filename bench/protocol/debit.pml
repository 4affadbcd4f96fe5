/* debit.pml: one shard is debited while anything may fail. Protocol rules 5, 7 and 8; the product is
 * balance/lua/apply.lua and balance/debit.go.
 *
 * The world. A log of N entries. Two Redis nodes: one is the master, its replica lags, a failover promotes what the
 * replica has, and the old master stays alive, writable, and may be promoted again. DEBITS owners who all believe that
 * the shard is theirs. Calls, replies and produces get lost, produces arrive after their sender gave up, owners die
 * between any two steps. There are no fences and no locks, as in the product.
 *
 * Offsets are 1..N and 0 is "none", where the product has 0.. and -1.
 * Each #ifdef takes one mechanism away; README.md lists the mutants and what kills them.
 */
#ifndef N
#define N 3                     /* entries in the log */
#endif
#ifndef DEBITS
#define DEBITS 2                /* owners who are alive at once */
#endif
#ifndef FAILOVERS
#define FAILOVERS 2
#endif
#define PER_CALL 2              /* entries that one call of the script may take */

/* The fold: pure in (state, entry). An entry that is skipped, doubled or half applied changes all later outcomes. */
#define FOLD(state, entry) ((state * 2 + entry) % 31)

typedef Shard {
  byte wm;                      /* highest applied offset */
  byte base;                    /* highest offset whose postings are known to be in Kafka */
  byte state;                   /* what the fold made of entries 1..wm */
  byte journal[N + 1]           /* outcomes of (base..wm] */
};
Shard node[2];                  /* what stands on each Redis node */
Shard replica;                  /* what the replica of the master has received */
bit master;
byte failovers;
bit calm;                       /* trouble is over for good */

byte posted;                    /* postings 1..posted are in the log, in this order, as all their readers see it */
byte late_offset, late_outcome; /* a produce that is still on its way; 0 is none */
byte ideal[N + 1];              /* the outcome of each entry, known to nobody but the assertions */

/* The invariants, by their names in the protocol. They are no part of the state. */
hidden byte I1_state_is_the_fold, I2_base_is_posted, I2_journal_is_whole, I3_postings_are_equal, I4_postings_have_no_gap,
  I9_everything_is_posted, I9_everything_is_applied, I9_base_reaches_the_end, I9_comes_to_rest;
hidden byte i;

/* A posting arrives in the log. Its readers accept the next one, skip those they have, and halt at a gap. */
inline append_posting(offset, outcome) {
  d_step {
    I3_postings_are_equal = (outcome == ideal[offset]);
    assert(I3_postings_are_equal);
    I4_postings_have_no_gap = (offset <= posted + 1);
    assert(I4_postings_have_no_gap);
    if :: offset == posted + 1 -> posted++ :: else fi
  }
}

inline copy_shard(to_, from_) {
  d_step {
    to_.wm = from_.wm; to_.base = from_.base; to_.state = from_.state;
    i = 0; do :: i <= N -> to_.journal[i] = from_.journal[i]; i++ :: else -> break od
  }
}

/* What must hold on every node after every script. Mutants run without it (OUTWARD): the harm must show outside. */
inline check_shard(s) {
#ifndef OUTWARD
  I1_state_is_the_fold = (s.state == ideal[s.wm]); assert(I1_state_is_the_fold);
  I2_base_is_posted = (s.base <= posted && s.base <= s.wm); assert(I2_base_is_posted);
  i = s.base + 1;
  do :: i <= s.wm -> I2_journal_is_whole = (s.journal[i] == ideal[i]); assert(I2_journal_is_whole); i++
     :: else -> break od
#endif
  skip
}

#define OK 1
#define GAP 2
#define TRIMMED 3
#define TORN 4

/* The script: rule 5. Checks first, then the fold, then all writes at once. It runs on node n for a call
 * (next, to, shipped_to) and leaves its reply in status, head (the wm or base that it tells) and answer. */
inline script() {
  d_step {
    if
#ifndef NO_GAP
    :: next > node[n].wm + 1 -> status = GAP; head = node[n].wm
#endif
#ifndef NO_TRIMMED
    :: next <= node[n].base -> status = TRIMMED; head = node[n].base
#endif
    :: else ->
       status = OK;
       first_new = (next > node[n].wm + 1 -> next : node[n].wm + 1);
       /* what is known to be in Kafka needs no journal, but never more than was applied */
#if defined(TRIM_EARLY)
       node[n].base = node[n].wm;
#elif defined(SHIPPED_LIES)
       if :: to > node[n].base -> node[n].base = (to < node[n].wm -> to : node[n].wm) :: else fi;
#elif defined(NO_MIN)
       if :: shipped_to > node[n].base -> node[n].base = shipped_to :: else fi;
#else
       if
       :: shipped_to > node[n].base -> node[n].base = (shipped_to < node[n].wm -> shipped_to : node[n].wm)
       :: else
       fi;
#endif
       /* the answers that are in the journal, before it is trimmed: the same bytes as the first time */
       i = next;
       do :: i < first_new && i <= to -> answer[i] = node[n].journal[i]; i++ :: else -> break od;
       i = 1;
       do :: i <= node[n].base && i <= N -> node[n].journal[i] = 0; i++ :: else -> break od;
       /* the fold */
       i = first_new;
       do
       :: i <= to && !(torn && i > first_new) ->
#ifdef BATCH_FOLD
          node[n].state = FOLD(node[n].state, i) + (to > i);
#else
          node[n].state = FOLD(node[n].state, i);
#endif
          answer[i] = node[n].state; node[n].journal[i] = node[n].state; i++
       :: else -> break
       od;
       if
       :: torn -> status = TORN    /* accounts are written, the watermark is not */
       :: !torn && to > node[n].wm -> node[n].wm = to
       :: else
       fi;
#ifdef NO_JOURNAL
       i = 1; do :: i <= N -> node[n].journal[i] = 0; i++ :: else -> break od;
#endif
       check_shard(node[n])
    fi;
    torn = 0
  }
}

/* Which node answers: before it is calm, perhaps an old master. */
inline connect() { if :: n = master :: !calm -> n = 1 - master fi }

inline forget_call() {
  d_step {
    i = 1; do :: i <= N -> answer[i] = 0; i++ :: else -> break od;
    status = 0; head = 0; first_new = 0; to = 0; k = 0; n = 0
  }
}

inline die() { forget_call(); next = 0; shipped_to = 0 }

inline after_posting() {
  if
  :: k > to -> shipped_to = to; next = to + 1; forget_call(); goto round
  :: else -> goto ship
  fi
}

/* An owner: rule 7. What happens within one atomic is one call to a server, or none. */
proctype Debit() {
  byte next;                    /* the next entry to apply */
  byte shipped_to;              /* highest offset whose postings are known to be in Kafka */
  byte to, k;                   /* the call takes next..to, the produce is at k */
  byte answer[N + 1];           /* outcomes of next..to */
  byte status, head, first_new, rounds;
  bit n, torn;

start:                          /* a new process, or a new generation of the group: ask the shard */
  atomic {
    forget_call();
    connect();
#ifdef START_AT_WM
    next = node[n].wm + 1;
#else
    next = node[n].base + 1;
#endif
    shipped_to = next - 1; n = 0
  }
round:
  atomic {
#ifdef COUNT_ROUNDS             /* a survivor that never comes to rest is as bad as one that stops */
    if :: calm -> rounds++; I9_comes_to_rest = (rounds <= 3 * N + 4); assert(I9_comes_to_rest) :: else fi;
#endif
    if                          /* the log may end anywhere so far: there is a next entry, or there is none yet */
    :: next <= N -> to = next
    :: next < N && PER_CALL > 1 -> to = next + 1
    :: next > N || !calm -> /* every second without input: the probe, rule 8 */
       connect();
       if
#ifndef NO_PROBE
       :: node[n].wm + 1 < next -> next = node[n].wm + 1; n = 0; goto round
#endif
#ifndef NOT_TOLD
       :: node[n].wm + 1 >= next && node[n].base < shipped_to -> to = next - 1 /* an empty call tells what is shipped */
#endif
       :: else -> n = 0; if :: next <= N || !calm -> goto round :: else -> goto rest fi
       fi
    fi;
#ifdef TORN_SCRIPT
    if :: !calm -> torn = 1 :: torn = 0 fi;
#endif
    connect();
    script();
    if
    :: status == GAP -> next = head + 1; forget_call(); goto round         /* the node lost it, or never had it */
    :: status == TRIMMED -> next = head + 1; shipped_to = head; forget_call(); goto round /* another owner shipped it */
    :: status == OK && to < next -> forget_call(); goto round              /* it only told */
    :: status == OK && to >= next -> skip
    :: status == TORN || status == OK && !calm -> forget_call(); goto round /* no reply: the round again, anywhere */
    :: !calm -> die(); goto start
    fi;
#ifdef NO_JOURNAL
    k = (first_new > next -> first_new : next);             /* what was applied before has no outcome any more */
    if :: k > to -> after_posting() :: else fi;
#else
    k = next;
#endif
    status = 0; head = 0; first_new = 0; n = 0
  }
ship:                           /* in order, one at a time, again until acknowledged */
  if
  :: atomic { append_posting(k, answer[k]); k++; after_posting() }
  :: atomic { !calm -> append_posting(k, answer[k]); goto ship }        /* appended, but who knows: again */
  :: atomic { !calm && late_offset == 0 -> late_offset = k; late_outcome = answer[k]; goto ship } /* on its way: again */
  :: atomic { !calm -> forget_call(); goto round }                      /* it gives up, and makes the round again */
  :: atomic { !calm -> die(); goto start }
#ifdef SHIP_UNAWAITED
  :: atomic { k++; after_posting() }                                    /* takes it for appended */
#endif
#ifdef SHIP_UNORDERED
  :: atomic { k < to -> append_posting(k + 1, answer[k + 1]); goto ship } /* the next one overtakes */
#endif
  fi;
rest:                           /* calm, and nothing left to do: nothing may be missing, on the master or in the log */
  atomic {
    I9_everything_is_posted = (posted == N); assert(I9_everything_is_posted);
    I9_everything_is_applied = (node[master].wm == N && node[master].state == ideal[N]); assert(I9_everything_is_applied);
    /* a recharge waits until the entry that decided it is at or below base (rule 13) */
    I9_base_reaches_the_end = (node[master].base == N); assert(I9_base_reaches_the_end)
  }
}

/* What the world does, until it stops. */
proctype Trouble() {
  do
  :: atomic { !calm -> copy_shard(replica, node[master]) }
  :: atomic { !calm && failovers < FAILOVERS ->            /* the replica is promoted with what it has */
       failovers++; master = 1 - master; copy_shard(node[master], replica) }
  :: atomic { !calm && failovers < FAILOVERS ->            /* the old master is promoted again */
       failovers++; master = 1 - master }
  :: atomic { late_offset != 0 -> append_posting(late_offset, late_outcome); late_offset = 0; late_outcome = 0 }
  :: atomic { !calm -> calm = 1 }
  :: atomic { calm && late_offset == 0 -> break }
  od
}

init {
  atomic {
    i = 1; do :: i <= N -> ideal[i] = FOLD(ideal[i - 1], i); i++ :: else -> break od;
    i = 0; do :: i < DEBITS -> run Debit(); i++ :: else -> break od;
    run Trouble()
  }
}
