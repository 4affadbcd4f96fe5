/* image.pml: a shard that lost its state is loaded from an image, while its log is cut and anything may fail. Protocol
 * rule 11; the product is balance/debit.go (hear, compareWithLog, load), balance/lua (load_chunk, flip, wipe) and
 * balance/audit.
 *
 * The world is that of debit.pml, which describes the script and the owner; here the owner is shorter. Besides, Redis
 * may lose everything, an audit writes images, and the log loses its beginning up to the newest image. The state of a
 * shard has two parts, and each chunk of an image holds one of them, so that a shard loaded by half is seen.
 */
#ifndef N
#define N 2                     /* entries in the log */
#endif
#ifndef DEBITS
#define DEBITS 2                /* owners who are alive at once */
#endif
#ifndef FAILOVERS
#define FAILOVERS 1
#endif
#ifndef LOSSES
#define LOSSES 1                /* how often Redis loses everything */
#endif
#define CHUNKS 2

#define FOLD(part_, entry) ((part_ * 2 + entry) % 31)
#define OUTCOME(s) (s.part[0] + s.part[1])

typedef Staged {                /* what one loader has put under its nonce */
  byte chain;                   /* how many chunks, without a hole */
  byte wm;                      /* of which image the last chunk is, which holds the head */
  byte part[CHUNKS]
};
typedef Shard {
  bit exists;                   /* it has a head; else UNINIT */
  byte wm, base;
  byte part[CHUNKS];            /* what the fold made of entries 1..wm */
  byte journal[N + 1];
  Staged staged[DEBITS]
};
Shard node[2];
Shard replica;
bit master;
byte failovers, losses;
bit calm;

byte image;                     /* the newest whole image is of this offset; 0 is the state before the first entry */
byte first_kept = 1;            /* where the log of entries begins */
byte posted;                    /* postings 1..posted are in the log */
byte late_offset, late_outcome; /* a produce that is still on its way; 0 is none */
byte ideal[CHUNKS * (N + 1)], ideal_outcome[N + 1];

hidden byte I1_state_is_the_fold, I2_base_is_posted, I3_postings_are_equal, I4_postings_have_no_gap, I7_loaded_is_the_fold,
  I9_everything_is_posted, I9_everything_is_applied, I9_base_reaches_the_end, I9_comes_to_rest;
hidden byte i;

inline append_posting(offset, outcome) {
  d_step {
    I3_postings_are_equal = (outcome == ideal_outcome[offset]); assert(I3_postings_are_equal);
    I4_postings_have_no_gap = (offset <= posted + 1); assert(I4_postings_have_no_gap);
    if :: offset == posted + 1 -> posted++ :: else fi
  }
}

inline copy_shard(to_, from_) {
  d_step {
    to_.exists = from_.exists; to_.wm = from_.wm; to_.base = from_.base;
    to_.part[0] = from_.part[0]; to_.part[1] = from_.part[1];
    i = 0; do :: i <= N -> to_.journal[i] = from_.journal[i]; i++ :: else -> break od;
    i = 0;
    do
    :: i < DEBITS ->
       to_.staged[i].chain = from_.staged[i].chain; to_.staged[i].wm = from_.staged[i].wm;
       to_.staged[i].part[0] = from_.staged[i].part[0]; to_.staged[i].part[1] = from_.staged[i].part[1]; i++
    :: else -> break
    od
  }
}

inline unstage(s, who) {
  d_step { s.staged[who].chain = 0; s.staged[who].wm = 0; s.staged[who].part[0] = 0; s.staged[who].part[1] = 0 }
}

/* The shard's state is gone; what loaders have staged stays. */
inline wipe(s) {
  d_step {
    s.exists = 0; s.wm = 0; s.base = 0; s.part[0] = 0; s.part[1] = 0;
    i = 0; do :: i <= N -> s.journal[i] = 0; i++ :: else -> break od
  }
}

#define IS_THE_FOLD(s) (s.part[0] == ideal[s.wm] && s.part[1] == ideal[N + 1 + s.wm])

#define OK 1
#define GAP 2
#define TRIMMED 3
#define UNINIT 4

/* The script, as in debit.pml, for a call of at most one entry. */
inline script() {
  d_step {
    if
    :: !node[n].exists -> status = UNINIT
    :: node[n].exists && next > node[n].wm + 1 -> status = GAP; next = node[n].wm + 1
    :: node[n].exists && next <= node[n].base -> status = TRIMMED; next = node[n].base + 1; shipped_to = node[n].base
    :: else ->
       status = OK;
       if
       :: shipped_to > node[n].base -> node[n].base = (shipped_to < node[n].wm -> shipped_to : node[n].wm)
       :: else
       fi;
       if
       :: to > node[n].wm ->
          node[n].part[0] = FOLD(node[n].part[0], to); node[n].part[1] = FOLD(node[n].part[1], to); node[n].wm = to;
          node[n].journal[to] = OUTCOME(node[n])
       :: else
       fi;
       if :: to >= next -> answer = node[n].journal[to] :: else fi;
       i = 1; do :: i <= node[n].base -> node[n].journal[i] = 0; i++ :: else -> break od;
#ifndef OUTWARD
       I1_state_is_the_fold = IS_THE_FOLD(node[n]); assert(I1_state_is_the_fold);
       I2_base_is_posted = (node[n].base <= posted); assert(I2_base_is_posted)
#endif
    fi
  }
}

inline connect() { if :: n = master :: !calm -> n = 1 - master fi }
inline forget_call() { d_step { answer = 0; status = 0; to = 0; n = 0; chunk = 0; from_image = 0; seen_wm = 0 } }
inline ask_again() { forget_call(); next = 0; shipped_to = 0 }

/* An owner: rules 7, 8 and 11. While next is 0 it does not know yet where the shard stands. */
proctype Debit(byte self) {
  byte next, shipped_to, to, answer, status;
  byte chunk, from_image;       /* of a load: the next chunk, and the offset of the image */
  byte seen_wm;                 /* of a wipe: the wm that was read */
  byte rounds;
  bit n;

round:
  atomic {
#ifdef COUNT_ROUNDS             /* a survivor that never comes to rest is as bad as one that stops */
    if :: calm -> rounds++; I9_comes_to_rest = (rounds <= 4 * N + 8); assert(I9_comes_to_rest) :: else fi;
#endif
    if
    :: next >= first_kept && next <= N -> to = next
    :: next < first_kept || next > N || !calm ->
       connect();
       if
       :: !node[n].exists ->    /* UNINIT: the newest image, under a nonce of its own */
          next = 0; shipped_to = 0; n = 0; from_image = image;
#ifndef NO_NONCE
          unstage(node[0], self); unstage(node[1], self); unstage(replica, self);
#endif
          goto load
#ifndef NO_WIPE
       :: node[n].exists && node[n].wm + 1 < first_kept -> seen_wm = node[n].wm + 1; n = 0; goto wiping
#endif
       :: else -> skip
       fi;
       if
       :: next == 0 -> next = node[n].base + 1; shipped_to = node[n].base
       :: next > node[n].wm + 1 -> next = node[n].wm + 1
       :: else
       fi;
       if                       /* the log is cut only below postings that an image saw */
       :: next < first_kept -> next = first_kept; shipped_to = (shipped_to > first_kept - 1 -> shipped_to : first_kept - 1)
       :: else
       fi;
       if
       :: node[n].base < shipped_to -> to = next - 1
       :: else -> n = 0; if :: next <= N || !calm -> goto round :: else -> goto rest fi
       fi
    fi;
    connect();
    script();
    if
    :: status == UNINIT -> ask_again(); goto round
    :: status == GAP || status == TRIMMED -> forget_call(); goto round
    :: status == OK && to < next -> forget_call(); goto round
    :: status == OK && to >= next -> n = 0; status = 0
    :: status == OK && !calm -> forget_call(); goto round               /* the reply is lost */
    :: !calm -> ask_again(); goto round                                 /* dead */
    fi
  }
ship:
  if
  :: atomic { append_posting(to, answer); shipped_to = to; next = to + 1; forget_call(); goto round }
  :: atomic { !calm -> append_posting(to, answer); goto ship }          /* appended, but who knows: again */
  :: atomic { !calm && late_offset == 0 -> late_offset = to; late_outcome = answer; goto ship }
  :: atomic { !calm -> ask_again(); goto round }                        /* dead */
  fi;
wiping:                         /* a master from before the log was cut, iff it still is the one that was read */
  atomic {
    connect();
    if :: node[n].exists && node[n].wm + 1 == seen_wm -> wipe(node[n]) :: else fi;
    ask_again(); goto round
  }
load:                           /* chunk by chunk; every failure starts again under a new nonce */
  atomic {
    connect();
    if
    :: node[n].exists -> ask_again(); goto round                        /* another owner was quicker */
#ifdef NO_NONCE
#define NONCE 0
    :: !node[n].exists && chunk > node[n].staged[NONCE].chain -> ask_again(); goto round
    :: !node[n].exists && chunk <= node[n].staged[NONCE].chain ->
#else
#define NONCE self
#ifndef NO_CHAIN
    :: !node[n].exists && chunk != node[n].staged[NONCE].chain -> ask_again(); goto round
    :: !node[n].exists && chunk == node[n].staged[NONCE].chain ->
#else
    :: !node[n].exists ->
#endif
#endif
       if
       :: chunk < CHUNKS ->
          node[n].staged[NONCE].part[chunk] = ideal[chunk * (N + 1) + from_image];
          node[n].staged[NONCE].chain = chunk + 1;
          node[n].staged[NONCE].wm = from_image;
          chunk++; n = 0;
          if :: goto load :: !calm -> ask_again(); goto round fi        /* the reply is lost, or it is dead */
       :: chunk == CHUNKS ->    /* the flip: all at once, iff the chain is whole and there is still no head */
          d_step {
            node[n].exists = 1; node[n].wm = node[n].staged[NONCE].wm; node[n].base = node[n].staged[NONCE].wm;
            node[n].part[0] = node[n].staged[NONCE].part[0]; node[n].part[1] = node[n].staged[NONCE].part[1];
#ifndef OUTWARD
            I7_loaded_is_the_fold = IS_THE_FOLD(node[n]); assert(I7_loaded_is_the_fold);
            I2_base_is_posted = (node[n].base <= posted); assert(I2_base_is_posted);
#endif
            i = 1; do :: i <= N -> node[n].journal[i] = 0; i++ :: else -> break od;
            i = 0; do :: i < DEBITS -> unstage(node[n], i); i++ :: else -> break od
          };
          ask_again(); goto round
       fi
    fi
  };
rest:                           /* calm, and nothing left to do */
  atomic {
    I9_everything_is_posted = (posted == N); assert(I9_everything_is_posted);
    I9_everything_is_applied = (node[master].wm == N && IS_THE_FOLD(node[master])); assert(I9_everything_is_applied);
    I9_base_reaches_the_end = (node[master].base == N); assert(I9_base_reaches_the_end)
  }
}

proctype Trouble() {
  do
  :: atomic { !calm -> copy_shard(replica, node[master]) }
  :: atomic { !calm && failovers < FAILOVERS -> failovers++; master = 1 - master; copy_shard(node[master], replica) }
  :: atomic { !calm && failovers < FAILOVERS -> failovers++; master = 1 - master } /* the old master, promoted again */
  :: atomic { !calm && losses < LOSSES -> losses++;                     /* Redis is emptied, its replica with it */
       wipe(node[master]); wipe(replica);
       i = 0; do :: i < DEBITS -> unstage(node[master], i); unstage(replica, i); i++ :: else -> break od }
  :: atomic { late_offset != 0 -> append_posting(late_offset, late_outcome); late_offset = 0; late_outcome = 0 }
  /* the audit writes an image, in the middle of anything, but only of what has its postings */
#ifdef EARLY_IMAGE
  :: atomic { !calm && image < N -> image++ }
#else
  :: atomic { !calm && image < posted -> image++ }
#endif
#ifdef CUT_BEYOND_IMAGE
  :: atomic { !calm && first_kept < posted + 1 -> first_kept++ }
#else
  :: atomic { !calm && first_kept < image + 1 -> first_kept++ }         /* the log is cut */
#endif
  :: atomic { !calm -> calm = 1 }
  :: atomic { calm && late_offset == 0 -> break }
  od
}

init {
  atomic {
    i = 1;
    do
    :: i <= N ->
       ideal[i] = FOLD(ideal[i - 1], i); ideal[N + 1 + i] = FOLD(ideal[N + i], i);
       ideal_outcome[i] = ideal[i] + ideal[N + 1 + i]; i++
    :: else -> break
    od;
    run Debit(0);
#if DEBITS > 1
    run Debit(1);
#endif
    run Trouble()
  }
}
