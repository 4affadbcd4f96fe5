package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/tollgate/tollgate/balance/lua"
)

func shardCommand() *cobra.Command {
	c := &cobra.Command{Use: "shard", Short: "Inspect shards, halt one, let one go on"}
	inspect := &cobra.Command{Use: "inspect [SHARD]", Short: "Show where all shards stand, or one with its history", Args: cobra.MaximumNArgs(1), RunE: inspectShards}
	var reason string
	resume := &cobra.Command{Use: "resume SHARD --reason TEXT", Short: "Let a halted shard go on; who and why is kept", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return onShard(cmd, args[0], func(ctx context.Context, a *App, shard int32) error {
				if err := a.shards.Resume(ctx, shard, principal(), reason, a.clock.Now()); err != nil {
					return err
				}
				newPrinter(cmd).say("shard %d goes on", shard)
				return nil
			})
		}}
	halt := &cobra.Command{Use: "halt SHARD --reason TEXT", Short: "Stop a shard: nothing is applied until it is resumed", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return onShard(cmd, args[0], func(ctx context.Context, a *App, shard int32) error {
				if err := a.shards.Halt(ctx, shard, lua.ByHand+principal()+" at "+a.clock.Now().UTC().Format(time.RFC3339)+": "+reason); err != nil {
					return err
				}
				newPrinter(cmd).say("shard %d is halted; `tollgate shard resume %d --reason TEXT` lets it go on", shard, shard)
				return nil
			})
		}}
	for _, act := range []*cobra.Command{resume, halt} {
		act.Flags().StringVar(&reason, "reason", "", "why")
		_ = act.MarkFlagRequired("reason")
	}
	c.AddCommand(inspect, halt, resume)
	return c
}

// onShard runs an act on the shard that the operator names.
func onShard(cmd *cobra.Command, text string, act func(ctx context.Context, a *App, shard int32) error) error {
	return withBook(cmd, func(ctx context.Context, a *App) error {
		shard, err := strconv.ParseInt(text, 10, 32)
		if err != nil || shard < 0 || int32(shard) >= a.follower.Book().Shards() {
			return notFoundf("there is no shard %q: the installation has 0 to %d", text, a.follower.Book().Shards()-1)
		}
		return act(ctx, a, int32(shard))
	})
}

// shardView is where a shard stands, as commands show it.
type shardView struct {
	Shard    int32  `json:"shard"`
	State    string `json:"state"`
	WM       int64  `json:"wm"`
	Base     int64  `json:"base"`
	LogStart int64  `json:"log_start"`
	LogEnd   int64  `json:"log_end"`
	Lag      int64  `json:"lag"`
	Reason   string `json:"reason,omitempty"`
}

// shardViews reads where all shards stand in Redis and in the log.
func (a *App) shardViews(ctx context.Context) ([]shardView, error) {
	ids := make([]int32, a.follower.Book().Shards())
	for i := range ids {
		ids[i] = int32(i)
	}
	heads := make([]lua.Head, len(ids))
	if err := a.shards.Heads(ctx, ids, heads); err != nil {
		return nil, err
	}
	edges, err := a.kafka.ListOffsets(ctx, a.topics.entries, ids)
	if err != nil {
		return nil, err
	}
	views := make([]shardView, len(ids))
	for i, h := range heads {
		v := shardView{Shard: ids[i], State: "running", WM: h.WM, Base: h.Base, LogStart: edges[i].Start, LogEnd: edges[i].End, Reason: h.Halted}
		v.Lag = max(0, v.LogEnd-v.WM-1)
		switch {
		case h.Err != nil:
			v.State, v.Reason = "unreadable", h.Err.Error()
		case !h.Initialized:
			v.State, v.WM, v.Base, v.Lag = "empty", -1, -1, v.LogEnd-v.LogStart
		case h.Halted != "":
			v.State = "halted"
		case h.WM >= v.LogEnd && v.LogEnd >= 0 && h.WM >= 0:
			v.State = "beyond its log"
		}
		views[i] = v
	}
	return views, nil
}

func inspectShards(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return withBook(cmd, func(ctx context.Context, a *App) error {
			views, err := a.shardViews(ctx)
			if err != nil {
				return err
			}
			return rows(newPrinter(cmd), views, []string{"shard", "state", "wm", "base", "log start", "log end", "lag", "reason"}, func(v shardView) []any {
				return []any{v.Shard, v.State, v.WM, v.Base, v.LogStart, v.LogEnd, v.Lag, v.Reason}
			})
		})
	}
	return onShard(cmd, args[0], func(ctx context.Context, a *App, shard int32) error {
		views, err := a.shardViews(ctx)
		if err != nil {
			return err
		}
		history, err := a.shards.History(ctx, shard)
		if err != nil {
			return err
		}
		dump, err := a.shards.Dump(ctx, shard)
		if err != nil {
			return err
		}
		type view struct {
			shardView
			Accounts int      `json:"accounts"`
			Sources  int      `json:"sources"`
			IDs      int      `json:"ids"`
			Time     string   `json:"time"`
			History  []string `json:"history,omitempty"`
		}
		v := view{shardView: views[shard], History: history}
		if s := dump.State; s != nil {
			v.Accounts, v.Sources, v.IDs = len(s.Accounts), len(s.Sources), s.Current.Len()+s.Previous.Len()
			v.Time = time.UnixMilli(s.NowMs).UTC().Format(time.RFC3339)
		}
		pairs := []string{"shard", args[0], "state", v.State, "reason", v.Reason, "wm", fmt.Sprint(v.WM), "base", fmt.Sprint(v.Base), "lag", fmt.Sprint(v.Lag),
			"accounts", fmt.Sprint(v.Accounts), "sources", fmt.Sprint(v.Sources), "ids", fmt.Sprint(v.IDs), "time", v.Time}
		for _, line := range history {
			pairs = append(pairs, "resumed", line)
		}
		return newPrinter(cmd).fields(v, pairs...)
	})
}
