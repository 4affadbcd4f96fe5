package workload

import "math"

// sampler draws indexes by weight in constant time, by Walker's alias method: a column is drawn uniformly, and within
// it either the column's own index or its alias.
type sampler struct{ columns []column }

type column struct {
	own   uint32 // of 2³², how much of the column is its own
	alias uint32
}

// newSampler takes weights ≥ 0 whose mean is 1.
func newSampler(weights []float64) sampler {
	columns := make([]column, len(weights))
	rest := append([]float64(nil), weights...)
	var poor, rich []uint32
	for i, weight := range rest {
		columns[i] = column{own: math.MaxUint32, alias: uint32(i)}
		if weight < 1 {
			poor = append(poor, uint32(i))
		} else {
			rich = append(rich, uint32(i))
		}
	}
	for len(poor) > 0 && len(rich) > 0 {
		p, r := poor[len(poor)-1], rich[len(rich)-1]
		poor = poor[:len(poor)-1]
		columns[p] = column{own: uint32(rest[p] * (1 << 32)), alias: r}
		rest[r] -= 1 - rest[p]
		if rest[r] < 1 {
			rich = rich[:len(rich)-1]
			poor = append(poor, r)
		}
	}
	return sampler{columns: columns} // what is left over is 1 but for rounding
}

// draw gives an index.
func (s *sampler) draw(d *dice) int {
	i := d.below(uint64(len(s.columns)))
	c := s.columns[i]
	if uint32(d.pcg.Uint64()>>32) <= c.own {
		return int(i)
	}
	return int(c.alias)
}
