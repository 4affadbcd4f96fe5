package sink

import "iter"

// Tables gives the tables that the rows go to, each with its columns by name, in the order in which they are inserted:
// account_entries comes once more at the end if days were closed.
// A column is a slice; a table's columns have one length. They are valid until Reset. A simulated Store uses it.
func (r *Rows) Tables() iter.Seq2[string, iter.Seq2[string, any]] {
	return func(yield func(string, iter.Seq2[string, any]) bool) {
		for i := range r.tables {
			t := &r.tables[i]
			columns := func(yield func(string, any) bool) {
				for _, c := range tableColumns[i] {
					if !yield(c.name, c.values(t)) {
						return
					}
				}
			}
			if t.len() > 0 && !yield(tableNames[i], columns) {
				return
			}
		}
	}
}
