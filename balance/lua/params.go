package lua

import (
	"context"
	"fmt"
	"strconv"

	"github.com/tollgate/tollgate/balance/ledger"
)

// Params reads the parameters of a shard's fold. The error is ErrUninitialized for a shard without state.
func (s *Shards) Params(ctx context.Context, shard int32) (params [ledger.ParamCount]int64, err error) {
	fields := make([]string, len(params))
	for i := range fields {
		fields[i] = "param" + strconv.Itoa(i)
	}
	values, err := s.client.HMGet(ctx, s.stem(shard)+"head", fields...).Result()
	if err != nil {
		return params, fmt.Errorf("cannot read the parameters of shard %d: %w", shard, err)
	}
	for i, v := range values {
		text, ok := v.(string)
		if !ok {
			return params, fmt.Errorf("cannot read the parameters of shard %d: %w", shard, ErrUninitialized)
		}
		if params[i], err = strconv.ParseInt(text, 10, 64); err != nil {
			return params, fmt.Errorf("parameter %d of shard %d: %w", i, shard, err)
		}
	}
	return params, nil
}
