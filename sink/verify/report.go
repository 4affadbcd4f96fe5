package verify

import (
	"fmt"
	"sync"
)

// Report is what a verification found.
type Report struct {
	Shards   int32 `json:"shards"`
	Cut      int   `json:"cut_shards"` // shards whose logs no longer begin at 0
	Blocks   int64 `json:"blocks"`
	Entries  int64 `json:"entries"`  // recounted
	Rows     int64 `json:"rows"`     // of them, compared with ClickHouse
	Accounts int64 `json:"accounts"` // compared with Redis
	Sources  int   `json:"sources"`  // whose positions were checked
	// Records is how many positions of the sources have their row.
	Records int64 `json:"records"`
	// Decided is how many entries of the shards come from the book, as they must.
	Decided     int64 `json:"decided"`
	Differences int64 `json:"differences"`
	// Examples describe the first differences, with their places.
	Examples []string `json:"examples"`
	// Notes say what was left out, and why.
	Notes []string `json:"notes"`

	limit int
	mutex sync.Mutex
}

// String is the verdict in one line.
func (r *Report) String() string {
	return fmt.Sprintf("verify: %d entries, %d accounts, %d differences", r.Entries, r.Accounts, r.Differences)
}

// differ counts n differences, and describes them while there is room.
func (r *Report) differ(n int64, format string, args ...any) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.Differences += n
	if len(r.Examples) < r.limit {
		r.Examples = append(r.Examples, fmt.Sprintf(format, args...))
	}
}

// describes tells whether there is room for another example.
func (r *Report) describes() bool {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return len(r.Examples) < r.limit
}

func (r *Report) note(format string, args ...any) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// count adds what one shard contributed.
func (r *Report) count(blocks, entries, rows, accounts int64) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.Blocks, r.Entries, r.Rows, r.Accounts = r.Blocks+blocks, r.Entries+entries, r.Rows+rows, r.Accounts+accounts
}

func (r *Report) cut() {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.Cut++
}
